package dicom

import (
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
)

// scrape reads the metrics of dicom from the prometheus plugin.
func scrape(t *testing.T, address string) string {
	t.Helper()
	r, err := http.Get("http://" + address + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	text, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	var ours []string
	for line := range strings.Lines(string(text)) {
		if strings.Contains(line, "coredns_dicom_") {
			ours = append(ours, line)
		}
	}
	return strings.Join(ours, "")
}

// TestMetrics reads what the prometheus plugin shows, after what it is about has
// happened over real sockets.
func TestMetrics(t *testing.T) {
	dir := t.TempDir()
	path := write(t, dir, "site.yaml", siteYAML)
	metrics := fmt.Sprintf("127.0.0.1:%d", freePort(t))
	address, notified := fakeSecondary(t)
	database := filepath.Join(dir, "zones")
	s := start(t, strings.Replace(block(fmt.Sprintf("site %s\ndatabase %s\nallow %s * A AAAA TXT\nmax_update_records 5", path, database, key),
		"prometheus "+metrics, fmt.Sprintf("transfer {\n\tto %s\n}", address)), "require_opcode UPDATE", "", 1))
	eventually(t, "NOTIFY at the start", func() bool { return notified.Load() > 0 })
	s.update(t, dns.RcodeSuccess, domain, "x.imaging.example.org. 300 A 192.0.2.120")
	s.update(t, dns.RcodeRefused, domain, "x.imaging.example.org. 300 MX 0 x.imaging.example.org.")
	s.update(t, dns.RcodeRefused, domain, "oldmr.imaging.example.org. 300 A 192.0.2.120")
	s.update(t, dns.RcodeRefused, domain, slices.Repeat([]string{"x.imaging.example.org. 300 A 192.0.2.120"}, 6)...)
	s.update(t, dns.RcodeNotZone, domain, "x.example.net. 300 A 192.0.2.120")
	for range 2 {
		s.exchange(t, "tcp", change(t, domain, "x.imaging.example.org. 300 A 192.0.2.121"), otherKey, otherSecret)
	}
	for range 3 {
		s.exchange(t, "tcp", change(t, domain, "x.imaging.example.org. 300 A 192.0.2.121"), "", "")
	}
	// What a stranger chooses makes no series.
	s.exchange(t, "tcp", change(t, "stranger.imaging.example.org.", "stranger.imaging.example.org. 300 A 192.0.2.121"), key, secret)
	s.exchange(t, "tcp", new(dns.Msg).SetAxfr("stranger.imaging.example.org."), "", "")
	if _, err := transferIn(s.address("tcp"), new(dns.Msg).SetAxfr(domain), false); err != nil {
		t.Fatal(err)
	}
	serial := s.serial(t, domain)
	write(t, dir, "site.yaml", "nonsense")
	label := func(more string) string { return fmt.Sprintf(`{%szone="imaging.example.org."} `, more) }
	var text string
	eventually(t, "metrics of all that happened", func() bool {
		text = scrape(t, metrics)
		return strings.Contains(text, fmt.Sprintf(`site_reloads_total{result="failure",site=%q} 1`, path)) &&
			strings.Contains(text, `notifies_total{result="success",zone="imaging.example.org."} 2`)
	})
	for _, want := range []string{
		"updates_total" + label(`result="NOERROR",`) + "1",
		"updates_total" + label(`result="NOTZONE",`) + "1",
		"updates_total" + label(`result="REFUSED",`) + "8",
		"refusals_total" + label(`reason="not_permitted",`) + "1",
		"refusals_total" + label(`reason="site_record",`) + "1",
		"refusals_total" + label(`reason="limit",`) + "1",
		"refusals_total" + label(`reason="unknown_key",`) + "2",
		"refusals_total" + label(`reason="not_signed",`) + "3",
		"refusals_total" + label(`reason="other",`) + "0",
		`transfers_total{sent="axfr",zone="imaging.example.org."} 1`,
		`transfers_total{sent="ixfr",zone="imaging.example.org."} 0`,
		"failed_transfers_total" + label(`reason="busy",`) + "0",
		"zone_serial" + label("") + strconv.FormatFloat(float64(serial), 'g', -1, 64) + "\n",
		"zone_records" + label("") + "18",
		"journal_changes" + label("") + "2",
		fmt.Sprintf(`site_reloads_total{result="success",site=%q} 1`, path),
		fmt.Sprintf(`site_last_success_timestamp_seconds{site=%q} 1.`, path),
		"commit_duration_seconds_count ", "commit_transactions_bucket{le=\"1\"} ",
	} {
		if !strings.Contains(text, "coredns_dicom_"+want) {
			t.Errorf("no %s", want)
		}
	}
	if strings.Contains(text, "stranger") {
		t.Error("a stranger has made a series")
	}
	problems, err := testutil.GatherAndLint(prometheus.DefaultGatherer)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range slices.DeleteFunc(problems, func(p promlint.Problem) bool { return !strings.HasPrefix(p.Metric, "coredns_dicom_") }) {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
	if t.Failed() {
		t.Log(text)
	}

	// Another Corefile serves the reverse zone alone, from the same database.
	write(t, dir, "site.yaml", siteYAML)
	i, err := s.Restart(input(strings.Replace(string(s.Caddyfile().Body()), "dicom {", "dicom 192.0.2.0/24 {", 1)))
	if err != nil {
		t.Fatal(err)
	}
	s.Instance = i
	s.update(t, dns.RcodeRefused, reverse, "9.2.0.192.in-addr.arpa. 300 PTR x.imaging.example.org.")
	text = scrape(t, metrics)
	if strings.Contains(text, domain+`"`) {
		t.Errorf("metrics of a zone that is not served:\n%s", text)
	}
	if want := `refusals_total{reason="not_permitted",zone="2.0.192.in-addr.arpa."} 1`; !strings.Contains(text, want) {
		t.Errorf("no %s in\n%s", want, text)
	}
	s.stop()
	for _, vec := range []prometheus.Collector{updates, refusals, transfers, failedTransfers, notifies, zoneSerial, zoneRecords, zoneBytes, journalChanges, journalBytes, siteReloads, siteTime} {
		if n := testutil.CollectAndCount(vec); n != 0 {
			t.Errorf("%d series are left of %T", n, vec)
		}
	}
}

// TestRefusalsAreLogged: each kind of refusal is in the log, also while another
// one comes without pause, and the log does not grow with them.
func TestRefusalsAreLogged(t *testing.T) {
	s := startSite(t, t.TempDir())
	mark := logged.len()
	const many = 300
	for i := range many {
		s.exchange(t, "udp", change(t, domain, fmt.Sprintf("x%d.imaging.example.org. 300 A 192.0.2.121", i)), otherKey, otherSecret)
		if i == many/2 {
			s.update(t, dns.RcodeRefused, domain, "oldmr.imaging.example.org. 300 A 192.0.2.120")
		}
	}
	text := logged.since(mark)
	for _, want := range []string{"oldmr.imaging.example.org. A: record belongs to the site file", "x0.imaging.example.org. A: not permitted", key, "127.0.0.1:"} {
		if !strings.Contains(text, want) {
			t.Errorf("not in the log: %q", want)
		}
	}
	if n := strings.Count(text, "Refusing"); n > 20 {
		t.Errorf("%d lines for %d refusals", n, many+1)
	}
}

// TestSeriesOverlap: while two instances serve a zone its series live on.
func TestSeriesOverlap(t *testing.T) {
	const name = "overlap.example.org."
	var a, b *zoneMetrics
	endA := zoneSeries.use(name, func() { a = newZoneMetrics(name) })
	a.refused(overLimit)
	endB := zoneSeries.use(name, func() { b = newZoneMetrics(name) })
	endA()
	endA()
	b.refused(overLimit)
	if got := testutil.ToFloat64(refusals.WithLabelValues(name, "limit")); got != 2 {
		t.Errorf("%v refusals, want 2", got)
	}
	endB()
	if n := refusals.DeletePartialMatch(prometheus.Labels{"zone": name}); n != 0 {
		t.Errorf("%d series are left", n)
	}
	var none *zoneMetrics // of a zone that is not loaded
	none.updated(dns.RcodeSuccess)
	none.refused(notSigned)
	none.told(true)
}
