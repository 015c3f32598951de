package server

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/sirupsen/logrus"
)

func TestArgs(t *testing.T) {
	tests := []struct {
		name string
		args []string
		want map[string]string
		err  string
	}{
		{"none", nil, map[string]string{}, ""},
		{"two", []string{"site=/a", "verify=true"}, map[string]string{"site": "/a", "verify": "true"}, ""},
		{"equals sign in the value", []string{"site=/a=b"}, map[string]string{"site": "/a=b"}, ""},
		{"no equals sign", []string{"/a"}, nil, `"/a": expected key=value`},
		{"no key", []string{"=a"}, nil, `"=a": expected key=value`},
		{"no value", []string{"site="}, nil, `"site=": site has no value`},
		{"unknown", []string{"Site=/a"}, nil, `"Site=/a": unknown key "Site", expected one of site, verify`},
		{"twice", []string{"site=/a", "site=/a"}, nil, `"site=/a": site is given twice`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := Args(tt.args, "site", "verify")
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Fatalf("error %v, want one with %q", err, tt.err)
				}
				return
			}
			if err != nil || !maps.Equal(got, tt.want) {
				t.Errorf("got %v, %v", got, err)
			}
		})
	}
}

func TestRegister(t *testing.T) {
	name := registerFake(&fake{})
	if !slices.Contains(Registered(), name) {
		t.Errorf("%s is not among %v", name, Registered())
	}
	for what, f := range map[string]func(){
		"twice":       func() { Register(name, func([]string, *Host) (Plugin, error) { return nil, nil }) },
		"no name":     func() { Register("", func([]string, *Host) (Plugin, error) { return nil, nil }) },
		"no function": func() { Register("none", nil) },
	} {
		t.Run(what, func(t *testing.T) {
			defer func() {
				if recover() == nil {
					t.Error("no panic")
				}
			}()
			f()
		})
	}
}

type secret struct{}

func (secret) LogValue() slog.Value { return slog.StringValue("hidden") }

func TestLogger(t *testing.T) {
	var out bytes.Buffer
	base := logrus.New()
	base.SetOutput(&out)
	base.SetFormatter(&logrus.TextFormatter{DisableTimestamp: true, DisableColors: true, DisableQuote: true})
	log := slog.New(&logHandler{entry: base.WithField("prefix", "plugins/leases")})
	tests := []struct {
		name string
		log  func()
		want string
	}{
		{"fields", func() { log.Info("lease", "address", netip.MustParseAddr("192.0.2.1"), "n", 3, "took", time.Second) },
			"level=info msg=lease address=192.0.2.1 n=3 prefix=plugins/leases took=1s\n"},
		{"levels", func() { log.Warn("w"); log.Error("e") },
			"level=warning msg=w prefix=plugins/leases\nlevel=error msg=e prefix=plugins/leases\n"},
		{"debug is off", func() { log.Debug("d") }, ""},
		{"groups", func() { log.With("a", 1).WithGroup("g").With("b", 2).Info("m", slog.Group("h", "c", 3), slog.Attr{}) },
			"level=info msg=m a=1 g.b=2 g.h.c=3 prefix=plugins/leases\n"},
		{"prefix stays", func() { log.Info("m", "prefix", 7) }, "level=info msg=m fields.prefix=7 prefix=plugins/leases\n"},
		{"values that resolve themselves", func() { log.Info("m", "key", secret{}) }, "level=info msg=m key=hidden prefix=plugins/leases\n"},
		{"forged line", func() { log.Info("m", "name", "ct1\nlevel=error \x1b[31m\"x\"", "error", errors.New("a\nb")) },
			"level=info msg=m error=a\\nb name=ct1\\nlevel=error \\x1b[31m\\\"x\\\" prefix=plugins/leases\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			out.Reset()
			tt.log()
			if out.String() != tt.want {
				t.Errorf("got  %q\nwant %q", out.String(), tt.want)
			}
		})
	}
}

func TestLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := NewLimited()
		var lines []string
		write := func(msg string, args ...any) { lines = append(lines, msg+fmt.Sprint(args...)) }
		for range 100 {
			l.Log(write, "m")
		}
		if len(lines) != 5 {
			t.Errorf("%d lines at once, want 5", len(lines))
		}
		time.Sleep(10 * time.Second)
		l.Log(write, "m")
		if last := lines[len(lines)-1]; len(lines) != 6 || last != "mleft_out 95" && last != "mleft_out95" {
			t.Errorf("%d lines, the last is %q", len(lines), last)
		}
	})
}

// testPacket is a message of the type from a client, with a number in it.
func testPacket(t dhcpv4.MessageType, client, number byte) received {
	b := raw(53, 1, byte(t), 255)
	b[offHardware+5], b[offTransaction] = client, number
	return received{packet: b, at: time.Now()}
}

func TestWorkersKeepOrder(t *testing.T) {
	seen := make(map[byte][]byte)
	w := startWorkers(1, 100, func() func(*received) {
		return func(r *received) {
			seen[r.packet[offHardware+5]] = append(seen[r.packet[offHardware+5]], r.packet[offTransaction])
		}
	})
	for i := range byte(100) {
		if !w.submit(testPacket(dhcpv4.MessageTypeRequest, i%3, i)) {
			t.Fatal("no room")
		}
	}
	w.finish()
	for client, got := range seen {
		if len(got) < 33 || !slices.IsSorted(got) {
			t.Errorf("client %d: %v", client, got)
		}
	}
}

func TestWorkersDropTheNewest(t *testing.T) {
	hold, busy := make(chan struct{}), make(chan struct{}, 10)
	var worked []byte
	w := startWorkers(1, 4, func() func(*received) {
		return func(r *received) {
			busy <- struct{}{}
			<-hold
			worked = append(worked, r.packet[offTransaction])
		}
	})
	submit := func(t dhcpv4.MessageType, i byte) bool { return w.submit(testPacket(t, 1, i)) }
	got := []bool{submit(dhcpv4.MessageTypeDiscover, 1)}
	<-busy // 1 is being worked on, four more may wait, DISCOVERs only among the first two
	for i := range byte(3) {
		got = append(got, submit(dhcpv4.MessageTypeDiscover, 2+i))
	}
	for i := range byte(3) {
		got = append(got, submit(dhcpv4.MessageTypeRequest, 5+i))
	}
	if !slices.Equal(got, []bool{true, true, true, false, true, true, false}) {
		t.Errorf("taken: %v", got)
	}
	close(hold)
	w.finish()
	if !bytes.Equal(worked, []byte{1, 2, 3, 5, 6}) {
		t.Errorf("worked on %v", worked)
	}
}

// The reader's memory is read into again, while what is queued waits; what is not
// queued needs none.
func TestQueueCopies(t *testing.T) {
	q, p := newQueue(1), testPacket(dhcpv4.MessageTypeRequest, 1, 1)
	if !q.push(p) {
		t.Fatal("no room for the first")
	}
	p.packet[offTransaction] = 2
	if got := testing.AllocsPerRun(100, func() {
		if q.push(p) {
			t.Error("room for more than one")
		}
	}); got != 0 {
		t.Errorf("%v allocations for a packet that is turned away", got)
	}
	if got, ok := q.pop(); !ok || got.packet[offTransaction] != 1 {
		t.Errorf("%t, %v", ok, got.packet)
	}
}

func TestRing(t *testing.T) {
	var r ring
	pushed, popped := 0, 0
	for round := range 200 {
		for range round % 7 {
			r.push(received{iface: pushed})
			pushed++
		}
		for range min(round%5, r.length) {
			if got := r.pop(); got.iface != popped {
				t.Fatalf("popped %d, want %d", got.iface, popped)
			}
			popped++
		}
		if r.length != pushed-popped {
			t.Fatalf("length %d, want %d", r.length, pushed-popped)
		}
	}
	if pushed < 500 || r.length < 50 {
		t.Errorf("%d pushed, %d left: the test proves nothing", pushed, r.length)
	}
}

func TestIsDiscover(t *testing.T) {
	for name, tt := range map[string]struct {
		packet []byte
		want   bool
	}{
		"first":            {raw(53, 1, 1, 255), true},
		"after others":     {raw(0, 12, 2, 'c', 't', 53, 1, 1, 255), true},
		"REQUEST":          {raw(53, 1, 3, 255), false},
		"BOOTP":            {raw(255, 53, 1, 1), false},
		"inside an option": {raw(12, 3, 53, 1, 1, 255), false},
		"two octets":       {raw(53, 2, 1, 1, 255), false},
		"cut off":          {raw(53, 1), false},
		"beyond the end":   {raw(12, 200, 53, 1, 1), false},
		"short":            {make([]byte, 20), false},
	} {
		if got := isDiscover(tt.packet); got != tt.want {
			t.Errorf("%s: %t", name, got)
		}
	}
}

func TestInterfacesAreCached(t *testing.T) {
	now, asked := time.Unix(0, 0), 0
	eth := func(index int, a string) []*netInterface {
		return []*netInterface{{index: index, name: "eth0", addrs: []netip.Addr{addr(a)}}}
	}
	list, failed := eth(1, "192.0.2.2"), error(nil)
	s := &interfaces{now: func() time.Time { return now }, list: func() ([]*netInterface, error) {
		asked++
		return list, failed
	}}
	check := func(what string, index, wantAsked int, wantAddr string) {
		t.Helper()
		i, table, ok := s.byIndex(index)
		if asked != wantAsked || ok != (wantAddr != "") {
			t.Fatalf("%s: asked %d times, found %t", what, asked, ok)
		}
		if ok && (i.addrs[0] != addr(wantAddr) || !table.local[addr(wantAddr)]) {
			t.Errorf("%s: %v", what, i.addrs)
		}
	}
	check("first", 1, 1, "192.0.2.2")
	list = eth(1, "192.0.2.3")
	check("at once", 1, 1, "192.0.2.2")
	check("unknown, but just asked", 2, 1, "")
	now = now.Add(2 * interfaceAge)
	check("later", 1, 2, "192.0.2.3")
	list = eth(2, "192.0.2.4")
	now = now.Add(interfaceAge / 2)
	check("a new one", 2, 3, "192.0.2.4")
	failed = errors.New("interrupted")
	now = now.Add(2 * interfaceAge)
	check("kept on failure", 2, 4, "192.0.2.4")
	check("not asked again at once", 2, 4, "192.0.2.4")
	if _, err := s.get(0); !errors.Is(err, failed) {
		t.Errorf("error %v", err)
	}
}

func TestServerID(t *testing.T) {
	eth := &netInterface{index: 2, name: "eth0",
		addrs:    []netip.Addr{addr("169.254.0.1"), addr("192.0.2.2"), addr("198.51.100.2")},
		prefixes: []netip.Prefix{netip.MustParsePrefix("169.254.0.1/16"), netip.MustParsePrefix("192.0.2.2/24"), netip.MustParsePrefix("198.51.100.2/24")}}
	table := &interfaceTable{local: map[netip.Addr]bool{
		addr("127.0.0.1"): true, addr("169.254.0.1"): true, addr("192.0.2.2"): true, addr("198.51.100.2"): true, addr("203.0.113.2"): true,
	}}
	named := func(a string) dhcpv4.Modifier { return dhcpv4.WithOption(dhcpv4.OptServerIdentifier(ip(a))) }
	tests := []struct {
		name string
		req  []dhcpv4.Modifier
		to   string
		want string
	}{
		{"the first that is not link-local", nil, "255.255.255.255", "192.0.2.2"},
		{"the one sent to", nil, "198.51.100.2", "198.51.100.2"},
		{"the one sent to, on another interface", nil, "203.0.113.2", "203.0.113.2"},
		{"the one the client knows", []dhcpv4.Modifier{named("198.51.100.2")}, "255.255.255.255", "198.51.100.2"},
		{"the client knows another server", []dhcpv4.Modifier{named("198.51.100.9")}, "255.255.255.255", "192.0.2.2"},
		{"a client cannot choose loopback", []dhcpv4.Modifier{named("127.0.0.1")}, "255.255.255.255", "192.0.2.2"},
		{"beside ciaddr", []dhcpv4.Modifier{dhcpv4.WithClientIP(ip("198.51.100.7"))}, "255.255.255.255", "198.51.100.2"},
		{"beside giaddr", []dhcpv4.Modifier{dhcpv4.WithGatewayIP(ip("198.51.100.7"))}, "255.255.255.255", "198.51.100.2"},
		{"beside the requested address", []dhcpv4.Modifier{dhcpv4.WithOption(dhcpv4.OptRequestedIPAddress(ip("198.51.100.7")))}, "255.255.255.255", "198.51.100.2"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			req := message(t, dhcpv4.MessageTypeRequest, 1, tt.req...)
			if got := eth.serverID(table, req, addr(tt.to)); got != addr(tt.want) {
				t.Errorf("%s, want %s", got, tt.want)
			}
		})
	}
	if got := (&netInterface{}).serverID(table, message(t, dhcpv4.MessageTypeDiscover, 1), netip.Addr{}); got.IsValid() {
		t.Errorf("interface without address: %s", got)
	}
}

func TestDrain(t *testing.T) {
	tests := []struct {
		name    string
		ends    time.Duration // when the workers are done, from the start
		hurried time.Duration // or from hurry, 0 for never
		took    time.Duration
		err     bool
	}{
		{"at once", 0, 0, 0, false},
		{"in time", time.Second, 0, time.Second, false},
		{"when hurried", time.Hour, time.Millisecond, drainTime + time.Millisecond, false},
		{"never", time.Hour, 0, drainTime + drainTime/5, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				done, once := make(chan struct{}), sync.Once{}
				end := func() { once.Do(func() { close(done) }) }
				defer time.AfterFunc(tt.ends, end).Stop()
				begin := time.Now()
				err := drain(done, func() {
					if tt.hurried > 0 {
						time.AfterFunc(tt.hurried, end)
					}
				})
				if took := time.Since(begin); took != tt.took || (err != nil) != tt.err {
					t.Errorf("took %s, error %v", took, err)
				}
			})
		})
	}
}

// BenchmarkExchange is the server's own work on one request, without sockets and
// without what plugins do.
func BenchmarkExchange(b *testing.B) {
	s := newServer(b, "server4: {plugins: [{server_id: 192.0.2.2}]}")
	packet := raw(53, 1, 1, 61, 7, 1, 0, 0, 0x5e, 0, 0x53, 1, 55, 6, 1, 3, 6, 15, 42, 121, 57, 2, 5, 220, 12, 3, 'c', 't', '1', 255)
	r := &received{listener: &listener{port: serverPort}, from: netip.MustParseAddrPort("192.0.2.1:67")}
	l := s.newLane()
	b.ReportAllocs()
	for b.Loop() {
		r.packet, r.at = bytes.Clone(packet), time.Now()
		l.work(b.Context(), r)
		if len(l.out.answers) != 1 {
			b.Fatal("no answer")
		}
		l.out.clear()
	}
}
