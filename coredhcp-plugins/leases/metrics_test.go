package leases

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// TestMetrics takes clients through the server and reads what it has counted.
func TestMetrics(t *testing.T) {
	w := newWire(t, pluginLines(t, `
domain: imaging.example.org
networks:
  - {name: radiology, subnet: 192.0.2.0/24, pools: [192.0.2.100-192.0.2.103], authoritative: true}
  - {name: cardiology, subnet: 198.51.100.0/24, pools: [198.51.100.100-198.51.100.199]}
devices:
  - {name: ct1, hardware-address: "00:00:5e:00:53:01", address: 192.0.2.11}
`, " max-per-port=3")...)
	ct1, c, d := w.client(0x01), w.client(0x10), w.client(0x11)
	ct1.gets()
	ct1.send(dhcpv4.MessageTypeNone)
	a := yours(c.gets())
	c.send(dhcpv4.MessageTypeRequest, ciaddr(a))
	b := yours(d.gets())
	d.send(dhcpv4.MessageTypeDecline, requested(b), selected(wiredServer.Addr()))
	d.send(dhcpv4.MessageTypeRelease, ciaddr(a))
	c.send(dhcpv4.MessageTypeRelease, ciaddr(a))
	w.client(0x12).send(dhcpv4.MessageTypeRequest, requested(addr("203.0.113.9")))
	for i := range byte(3) { // one rests, two may be taken, and the last is too many
		w.client(0x20 + i).send(dhcpv4.MessageTypeDiscover)
	}
	w.client(0x30, relayed).send(dhcpv4.MessageTypeDiscover)

	got := w.metrics()
	for _, want := range []string{
		`coredhcp_leases_answers_total{kind="offer",reason="offered",type="discover"} 6`,
		`coredhcp_leases_answers_total{kind="silent",reason="port_full",type="discover"} 1`,
		`coredhcp_leases_answers_total{kind="ack",reason="new",type="request"} 3`,
		`coredhcp_leases_answers_total{kind="ack",reason="renewed",type="request"} 1`,
		`coredhcp_leases_answers_total{kind="ack",reason="renewed",type="bootp"} 1`,
		`coredhcp_leases_answers_total{kind="nak",reason="wrong_network",type="request"} 1`,
		`coredhcp_leases_answers_total{kind="silent",reason="declined",type="decline"} 1`,
		`coredhcp_leases_answers_total{kind="silent",reason="released",type="release"} 1`,
		`coredhcp_leases_answers_total{kind="silent",reason="not_held",type="release"} 1`,
		`coredhcp_leases_declines_total{network="radiology"} 1`,
		`coredhcp_leases_refused_total 1`,
		`coredhcp_leases_pool_size{network="radiology"} 4`,
		`coredhcp_leases_pool_size{network="cardiology"} 100`,
		`coredhcp_leases_pool_addresses{network="radiology",state="active"} 0`,
		`coredhcp_leases_pool_addresses{network="radiology",state="declined"} 1`,
		`coredhcp_leases_pool_addresses{network="radiology",state="offered"} 2`,
		`coredhcp_leases_pool_addresses{network="radiology",state="free"} 1`,
		`coredhcp_leases_pool_addresses{network="cardiology",state="offered"} 1`,
		`coredhcp_leases_pool_addresses{network="cardiology",state="free"} 99`,
		`coredhcp_leases_fixed_active{network="radiology"} 1`,
		`coredhcp_leases_bindings 3`,
	} {
		if !strings.Contains(got, want+"\n") {
			t.Errorf("not there: %s", want)
		}
	}
	for _, name := range []string{"commit_seconds_count", "commit_transactions_count"} {
		m := regexp.MustCompile(`(?m)^coredhcp_leases_` + name + ` ([0-9]+)$`).FindStringSubmatch(got)
		if m == nil || m[1] == "0" {
			t.Errorf("%s is %q after leases were made", name, m)
		}
	}
	if t.Failed() {
		t.Log(got)
	}
	problems, err := testutil.GatherAndLint(w.registry())
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		if strings.HasPrefix(p.Metric, "coredhcp_leases_") {
			t.Errorf("%s: %s", p.Metric, p.Text)
		}
	}
}

// registry is where the server's plugins have registered what they measure.
func (w *wire) registry() *prometheus.Registry {
	w.t.Helper()
	r, ok := w.host.Metrics().(*prometheus.Registry)
	if !ok {
		w.t.Fatalf("metrics are registered with a %T", w.host.Metrics())
	}
	return r
}

// metrics are the values as Prometheus reads them.
func (w *wire) metrics() string {
	w.t.Helper()
	families, err := w.registry().Gather()
	w.must(err)
	var text bytes.Buffer
	for _, f := range families {
		for _, m := range f.GetMetric() {
			var labels []string
			for _, l := range m.GetLabel() {
				labels = append(labels, fmt.Sprintf("%s=%q", l.GetName(), l.GetValue()))
			}
			suffix := ""
			if len(labels) > 0 {
				suffix = "{" + strings.Join(labels, ",") + "}"
			}
			switch {
			case m.GetCounter() != nil:
				fmt.Fprintf(&text, "%s%s %v\n", f.GetName(), suffix, m.GetCounter().GetValue())
			case m.GetGauge() != nil:
				fmt.Fprintf(&text, "%s%s %v\n", f.GetName(), suffix, m.GetGauge().GetValue())
			case m.GetHistogram() != nil:
				fmt.Fprintf(&text, "%s_count%s %d\n", f.GetName(), suffix, m.GetHistogram().GetSampleCount())
			}
		}
	}
	return text.String()
}

// TestExhausted has a pool run dry.
// TestNotReady has the disk fail for a while.
func TestNotReady(t *testing.T) {
	var bad atomic.Bool
	l := onFS(t, errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(func(op errorfs.Op) error {
		if bad.Load() && op.Kind.ReadOrWrite() == errorfs.OpIsWrite {
			return errors.New("no space left on device")
		}
		return nil
	})))
	ask := func(client byte) *dhcpv4.DHCPv4 {
		offer := send(t, l, dhcpv4.MessageTypeDiscover, client)
		if offer == nil {
			t.Fatal("no offer")
		}
		return send(t, l, dhcpv4.MessageTypeRequest, client, selecting(offer)...)
	}
	if ask(1) == nil || l.Ready() != nil {
		t.Fatalf("a disk in order: %v", l.Ready())
	}
	bad.Store(true)
	if a := ask(1); a != nil {
		t.Errorf("answered %s", a.MessageType())
	}
	if err := l.Ready(); err == nil || !strings.Contains(err.Error(), "writing leases: ") {
		t.Errorf("a disk that fails: %v", err)
	}
	bad.Store(false)
	for began := time.Now(); ask(1) == nil; time.Sleep(50 * time.Millisecond) {
		if time.Since(began) > patience {
			t.Fatal("no lease although the disk works again")
		}
	}
	if err := l.Ready(); err != nil {
		t.Errorf("after a lease was written: %v", err)
	}
}

func TestExhausted(t *testing.T) {
	w := newWire(t, pluginLines(t, `
domain: imaging.example.org
networks: [{name: radiology, subnet: 192.0.2.0/24, pools: [192.0.2.100]}]
`, "")...)
	w.client(0x10).gets()
	w.want(w.client(0x11).send(dhcpv4.MessageTypeDiscover), dhcpv4.MessageTypeNone)
	got := w.metrics()
	for _, want := range []string{
		`coredhcp_leases_exhausted_total{network="radiology"} 1`,
		`coredhcp_leases_answers_total{kind="silent",reason="no_free_address",type="discover"} 1`,
		`coredhcp_leases_pool_addresses{network="radiology",state="free"} 0`,
	} {
		if !strings.Contains(got, want+"\n") {
			t.Errorf("not there: %s", want)
		}
	}
}

// reasonInSource is how package lease writes the reason of an answer.
var reasonInSource = regexp.MustCompile(`(?:silent\(|nak\(|refuse\(w, [\w.]+, |const reason\w+ = )("[^"]+")`)

// TestReasons holds that every reason that package lease has for silence or a NAK
// has a label.
func TestReasons(t *testing.T) {
	files, err := filepath.Glob("../pkg/lease/*.go")
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, file := range files {
		source, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range reasonInSource.FindAllSubmatch(source, -1) {
			reason, err := strconv.Unquote(string(m[1]))
			if err != nil {
				t.Fatal(err)
			}
			seen[reason] = true
			if reasonLabels[reason] == "" {
				t.Errorf("%s: reason %q has no label", file, reason)
			}
		}
	}
	if len(seen) < 15 || !seen[noFreeAddress] || !seen[portFull] {
		t.Errorf("found only %v", seen)
	}
}

// TestLabelsAreBounded has reasons that nobody has thought of share one label.
func TestLabelsAreBounded(t *testing.T) {
	m := &metrics{answers: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "answers_total", Help: "Answers."}, []string{"type", "kind", "reason"})}
	for i := range 100 {
		m.answered("discover", "silent", strconv.Itoa(i))
	}
	if n := testutil.CollectAndCount(m.answers); n != 1 {
		t.Errorf("%d series", n)
	}
}

func TestReadyOfSlowDisk(t *testing.T) {
	failed := errors.New("no space left on device")
	for _, tt := range []struct {
		unwritten *error
		writing   time.Duration
		want      string
	}{
		{nil, 0, ""},
		{nil, slowDisk - time.Millisecond, ""},
		{nil, 7 * time.Second, "writing leases: the disk has not answered for 7s"},
		{&failed, time.Second, "writing leases: no space left on device"},
		{&failed, slowDisk, "writing leases: the disk has not answered for 5s"},
	} {
		got := ""
		if err := ready(tt.unwritten, tt.writing); err != nil {
			got = err.Error()
		}
		if got != tt.want {
			t.Errorf("%v: %q, want %q", tt.writing, got, tt.want)
		}
	}
}
