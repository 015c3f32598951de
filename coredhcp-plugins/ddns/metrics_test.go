package ddns

import (
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/dicomnam/dicomnam/coredhcp-plugins/pkg/lease"
	"github.com/dicomnam/dicomnam/coredhcp-plugins/server"
)

func TestMetrics(t *testing.T) {
	keys, _ := keyFile(t)
	host := new(server.Host)
	d, err := New([]string{"site=" + siteFile(t, ""), "server=127.0.0.1:1", "keys=" + keys, "key=" + keyName, "database=" + filepath.Join(t.TempDir(), "names")}, host)
	if err != nil {
		t.Fatal(err)
	}
	m := metrics{d.(*DDNS)}
	if n := testutil.CollectAndCount(m); n != 0 {
		t.Errorf("%d metrics before the start", n)
	}
	if err := d.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	r := m.d.running.Load()
	q := lease.Query{Client: lease.Client{HardwareType: 1, HardwareAddr: "\x00\x00\x5e\x00\x53\x07"}, Hostname: "ws7"}
	if err := r.leases.Note(t.Context(), q, netip.MustParseAddr("192.0.2.7"), time.Hour); err != nil {
		t.Fatal(err)
	}
	for begin := time.Now(); ; time.Sleep(10 * time.Millisecond) {
		if s := r.worker.Stats(); s.Unanswered > 0 {
			break
		}
		if time.Since(begin) > time.Minute {
			t.Fatal("nothing was tried")
		}
	}
	err = testutil.CollectAndCompare(m, strings.NewReader(`# HELP coredhcp_ddns_changes_waiting Changes of a name that DNS has not confirmed.
# TYPE coredhcp_ddns_changes_waiting gauge
coredhcp_ddns_changes_waiting 1
# HELP coredhcp_ddns_conflicts Leases whose name is somebody else's at present.
# TYPE coredhcp_ddns_conflicts gauge
coredhcp_ddns_conflicts 0
# HELP coredhcp_ddns_server_up Whether a server answers and takes the key, as far as is known: 1 or 0.
# TYPE coredhcp_ddns_server_up gauge
coredhcp_ddns_server_up{server="127.0.0.1:1"} 0
`), "coredhcp_ddns_changes_waiting", "coredhcp_ddns_conflicts", "coredhcp_ddns_server_up")
	if err != nil {
		t.Error(err)
	}
	problems, err := testutil.CollectAndLint(m)
	if err != nil || len(problems) > 0 {
		t.Errorf("%v, %v", problems, err)
	}
	if s := r.leases.NameStats(); s.Oldest <= 0 {
		t.Errorf("%+v", s)
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
}
