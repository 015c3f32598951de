//go:build linux

package integration

import (
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dicomnam/dicomnam/integration/lab"
)

// A hospitalNet is the hospital in a lab: the server with a link to each of its
// networks, and who captures what clients see there.
type hospitalNet struct {
	*lab.Lab
	ward, home *lab.Namespace // of cardiology's clients, of the IPsec gateway
	captures   map[string]*lab.Process
	rule       string // of the time zone
	change     time.Time
}

var (
	serverOnWire  = netip.MustParsePrefix("203.0.113.253/30") // to the relay
	relayOnWire   = netip.MustParsePrefix("203.0.113.254/30")
	serverOnLine  = netip.MustParsePrefix("203.0.113.249/30") // to the gateway
	gatewayOnLine = netip.MustParsePrefix("203.0.113.250/30")
	relayInWard   = netip.MustParsePrefix("198.51.100.1/24")
	gatewayAtHome = netip.MustParsePrefix("203.0.113.1/25")
)

// newHospital lays the wires, starts the relay and the captures, and writes the
// time zone, in which summer begins after a while.
func newHospital(t *testing.T, until time.Duration) *hospitalNet {
	t.Helper()
	h := &hospitalNet{Lab: newLab(t), captures: map[string]*lab.Process{}}
	space := func(name string) *lab.Namespace {
		n, err := h.NewNamespace(name)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	relay := space("relay")
	h.ward, h.home = space("ward"), space("home")
	for _, wire := range [][2]lab.End{
		{{Space: h.Server, Link: "eth1", Address: serverOnWire}, {Space: relay, Link: "up0", Address: relayOnWire}},
		{{Space: relay, Link: "ward0", Address: relayInWard}, {Space: h.ward, Link: lab.Link}},
		{{Space: h.Server, Link: "eth2", Address: serverOnLine}, {Space: h.home, Link: lab.Link, Address: gatewayOnLine}},
		{{Space: h.home, Link: "home0", Address: gatewayAtHome}, {Space: space("readers"), Link: "home0"}},
	} {
		if err := lab.Join(wire[0], wire[1]); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(
		relay.Forward(),
		h.Server.Route(relayInWard.Masked(), relayOnWire.Addr()),
		h.Server.Route(gatewayAtHome.Masked(), gatewayOnLine.Addr()),
		relay.Route(netip.MustParsePrefix("192.0.2.0/24"), serverOnWire.Addr()),
		h.home.Route(netip.MustParsePrefix("192.0.2.0/24"), serverOnLine.Addr()),
	); err != nil {
		t.Fatal(err)
	}
	start := func(n *lab.Namespace, name, path, ready string, args ...string) *lab.Process {
		p, err := h.Start(n, lab.Command{Name: name, Path: path, Args: args})
		if err != nil {
			t.Fatal(err)
		}
		waitText(t, p, ready)
		return p
	}
	start(relay, "dhcrelay", "dhcrelay", "Sending on   Socket/fallback", "-4", "-d", "--no-pid", "-a", "-id", "ward0", "-iu", "up0", "-U", "up0", "192.0.2.2")
	for name, n := range map[string]*lab.Namespace{"radiology": h.Client, "cardiology": h.ward, "home": h.home} {
		h.captures[name] = start(n, "capture-"+name, "dumpcap", "File: ", "-i", lab.Link, "-f", "udp port 67 or udp port 68",
			"-w", filepath.Join(h.Dir, name+".pcap"))
	}
	h.change = time.Now().Add(until).Truncate(time.Second)
	data, rule := clockChange(h.change)
	h.rule = rule
	file := filepath.Join(h.Dir, "zoneinfo", hospitalZone)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	writeFile(t, file, string(data))
	return h
}

// waitText waits until a process has written something.
func waitText(t *testing.T, p *lab.Process, text string) {
	t.Helper()
	for ctx := timeout(t, patience); !strings.Contains(p.Written(), text); {
		select {
		case <-p.Done():
			t.Fatalf("%v\n%s", p.Ended(), p.Tail(10))
		case <-ctx.Done():
			t.Fatalf("%s did not write %q\n%s", p.Name, text, p.Tail(10))
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// start starts coredhcp on the hospital's site file.
func (h *hospitalNet) start(t *testing.T, site string) {
	t.Helper()
	writeFile(t, filepath.Join(h.Dir, "site.yaml"), site)
	writeFile(t, filepath.Join(h.Dir, "config.yml"), "server4:\n  listen: [\"%eth0\", \"%eth1\", \"%eth2\"]\n  plugins:\n    - server_id: 192.0.2.2\n"+
		"    - leases: site="+h.Dir+"/site.yaml database="+h.Dir+"/leases\n"+
		"    - ddns: site="+h.Dir+"/site.yaml server=192.0.2.2:53 keys="+h.Dir+"/tsig.keys key=dhcp.imaging.example.org.\n")
	h.startDNS(t)
	startServer(t, h.Lab, lab.Command{
		Name: "coredhcp", Path: filepath.Join(binaries(t), "coredhcp"),
		Args: []string{"--conf", filepath.Join(h.Dir, "config.yml"), "--control", filepath.Join(h.Dir, "coredhcp.sock")},
		Env:  []string{"ZONEINFO=" + filepath.Join(h.Dir, "zoneinfo")},
	})
}

// rounds has every patient do something, as many of a ward at a time as it has
// transports.
func rounds(t *testing.T, patients []*patient, by map[string][]transport, do func(*patient, transport) error) {
	t.Helper()
	var wg sync.WaitGroup
	for name, transports := range by {
		here := make(chan *patient, len(patients))
		for _, p := range patients {
			if p.ward.name == name {
				here <- p
			}
		}
		close(here)
		for _, transport := range transports {
			wg.Go(func() {
				for p := range here {
					if err := do(p, transport); err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
	}
	wg.Wait()
	if t.Failed() {
		t.FailNow()
	}
}

// A hospital: devices of the site file and guests on three networks, one behind a
// relay and one of IPsec clients, each with its own options, through the beginning of
// summer time. Clients call themselves whatever they like, and one address of a pool
// is used by a machine that nobody knows of. Every octet of every answer is judged as
// tshark read it off the clients' wires, and by what dhclient wrote; and every name by
// what DNS says.
func TestHospital(t *testing.T) { //nolint:tparallel // one try after the other
	t.Parallel()
	// The clients take a few seconds to get their leases, on an idle machine; summer is to begin after that.
	for _, until := range []time.Duration{30 * time.Second, 2 * time.Minute, 5 * time.Minute} {
		late := false
		t.Run("in "+until.String(), func(t *testing.T) { late = !springInHospital(t, until) })
		if !late {
			return
		}
	}
	t.Error("summer began too early each time")
}

// springInHospital is TestHospital with summer beginning so long after the start. It returns false where that was too
// early: not all clients had a lease.
func springInHospital(t *testing.T, until time.Duration) bool {
	for _, program := range []string{"dhcrelay", "tshark", "dumpcap", "dhclient"} {
		needs(t, program)
		if err := lab.Confined(program); err != nil {
			t.Skip(err)
		}
	}
	patients, site := hospital()
	binaries(t) // before the clock runs
	h := newHospital(t, until)
	h.start(t, site)
	// Two devices have dhclient in them, with leases that are renewed all the time.
	devices := map[string]*patient{"radiology": patients[0], "cardiology": patients[radiologyDevices]}
	for _, p := range devices {
		p.says = saying{}
	}
	startRealClients(t, h, devices)
	if err := h.Client.AddAddress(squatted); err != nil { // of which the server is not told
		t.Fatal(err)
	}
	by := map[string][]transport{}
	for range 16 { // who is new in radiology waits until its address was tried
		onWire, err := newFrames(h.Client, lab.Link)
		if err != nil {
			t.Fatal(err)
		}
		by["radiology"] = append(by["radiology"], onWire)
	}
	onWard, err := newFrames(h.ward, lab.Link)
	if err != nil {
		t.Fatal(err)
	}
	atHome, err := newGateway(h.home, gatewayAtHome.Addr(), netip.MustParseAddr("192.0.2.2"))
	if err != nil {
		t.Fatal(err)
	}
	by["cardiology"], by["home"] = []transport{onWard}, []transport{atHome}
	crafted := slices.DeleteFunc(slices.Clone(patients), func(p *patient) bool { return p == devices[p.ward.name] })
	rounds(t, crafted, by, func(p *patient, by transport) error { return p.lease(by) })
	if time.Now().After(h.change.Add(-time.Second)) {
		t.Logf("not all of %d clients had a lease %s after the start", len(patients), until)
		return false
	}
	time.Sleep(time.Until(h.change.Add(time.Second)))
	rounds(t, crafted, by, func(p *patient, by transport) error { return p.reboot(by) })
	for name := range devices {
		h.awaitRenewal(t, name)
	}
	addresses := map[netip.Addr]string{}
	for _, p := range crafted {
		if other, taken := addresses[p.got]; taken {
			t.Errorf("%s and %s both have %s", other, p.name(), p.got)
		}
		addresses[p.got] = p.name()
	}
	if other, taken := addresses[squatted]; taken {
		t.Errorf("%s has %s, which another machine uses", other, squatted)
	}
	h.judgeConflicts(t, devices["radiology"].mac) // whose network card the other machine is behind
	h.judgeNames(t, crafted)
	judged := 0
	for name, p := range h.captures {
		if err := p.Stop(); err != nil {
			t.Fatal(err)
		}
		judged += h.judge(t, name, patients)
	}
	if least := 3 * len(crafted); judged < least {
		t.Errorf("tshark saw %d answers, expected at least %d", judged, least)
	}
	for name, p := range devices {
		h.judgeLeases(t, name, p)
	}
	t.Logf("%d clients, %d answers", len(patients), judged)
	return true
}

// hospitalDhclient are the options that dhclient asks for, by its names.
var hospitalDhclient = []string{
	"subnet-mask", "broadcast-address", "time-offset", "routers", "domain-name", "domain-name-servers", "domain-search", "host-name", "interface-mtu",
	"ntp-servers", "static-routes", "log-servers", "netbios-node-type", "pcode", "tcode", "rfc3442-classless-static-routes",
}

// hospitalDhclientCodes are the codes of hospitalDhclient.
var hospitalDhclientCodes = []byte{1, 28, 2, 3, 15, 6, 119, 12, 26, 42, 33, 7, 46, 100, 101, 121}

func startRealClients(t *testing.T, h *hospitalNet, devices map[string]*patient) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if err := h.Plug(timeout(t, patience), devices["radiology"].mac); err != nil {
		t.Fatal(err)
	}
	if err := h.ward.SetMAC(lab.Link, devices["cardiology"].mac); err != nil {
		t.Fatal(err)
	}
	for name, n := range map[string]*lab.Namespace{"radiology": h.Client, "cardiology": h.ward} {
		file := filepath.Join(h.Dir, "real-"+name)
		writeFile(t, file+".conf", "option rfc3442-classless-static-routes code 121 = array of unsigned integer 8;\ntimeout 30; retry 1; initial-interval 1;\n"+
			"send dhcp-lease-time 12;\nrequest "+strings.Join(hospitalDhclient, ", ")+";\n")
		p, err := h.Start(n, lab.Command{Name: "real-" + name, Path: "dhclient", Args: []string{"-4", "-d", "-sf", self, "-cf", file + ".conf", "-lf", file + ".leases",
			"-pf", file + ".pid", "-e", "DICOMNAM_LAB_HOOK=" + file + ".events", lab.Link}})
		if err != nil {
			t.Fatal(err)
		}
		waitText(t, p, "\nbound to ")
	}
}

// leasesOf are the leases that dhclient wrote, each the options by name.
func (h *hospitalNet) leasesOf(t *testing.T, name string) (leases []map[string]string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(h.Dir, "real-"+name+".leases"))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		switch line = strings.TrimSpace(line); {
		case line == "lease {":
			leases = append(leases, map[string]string{})
		case len(leases) > 0:
			key, value, _ := strings.Cut(strings.TrimPrefix(strings.TrimSuffix(line, ";"), "option "), " ")
			leases[len(leases)-1][key] = value
		}
	}
	return leases
}

// awaitRenewal waits until dhclient has a lease of summer.
func (h *hospitalNet) awaitRenewal(t *testing.T, name string) {
	t.Helper()
	for ctx := timeout(t, patience); ; {
		if leases := h.leasesOf(t, name); len(leases) > 0 && leases[len(leases)-1]["time-offset"] == "7200" {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("%s: dhclient has no lease of summer: %v", name, h.leasesOf(t, name))
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// judgeLeases compares what dhclient wrote with the site file.
func (h *hospitalNet) judgeLeases(t *testing.T, name string, p *patient) {
	t.Helper()
	want := map[string]string{
		"fixed-address": p.address.String(), "subnet-mask": "255.255.255.0", "domain-name-servers": "192.0.2.2", "log-servers": "192.0.2.9",
		"ntp-servers": "192.0.2.3,192.0.2.4", "domain-name": `"imaging.example.org"`, "host-name": strconv.Quote(p.label),
		"pcode": strconv.Quote(h.rule), "tcode": strconv.Quote(hospitalZone), "dhcp-server-identifier": "192.0.2.2", "dhcp-lease-time": "12",
		"dhcp-message-type": "5", "interface": strconv.Quote(lab.Link),
	}
	switch name {
	case "radiology":
		want["broadcast-address"], want["routers"], want["interface-mtu"], want["static-routes"] = "192.0.2.255", "192.0.2.1", "1500", "198.51.100.9 192.0.2.1"
	case "cardiology":
		want["broadcast-address"], want["interface-mtu"], want["netbios-node-type"] = "198.51.100.255", "1400", "8"
		want["domain-search"] = `"cardiology.imaging.example.org.", "imaging.example.org."`
		want["rfc3442-classless-static-routes"] = "24,192,0,2,198,51,100,1,0,198,51,100,1"
	}
	offsets := map[string]int{}
	before := ""
	for _, lease := range h.leasesOf(t, name) {
		offset := lease["time-offset"]
		offsets[offset]++
		if before == "7200" && offset != "7200" {
			t.Errorf("%s: dhclient is back in winter", name)
		}
		before = offset
		for _, key := range []string{"time-offset", "renew", "rebind", "expire", "}"} {
			delete(lease, key)
		}
		for key, value := range want {
			if lease[key] != value {
				t.Errorf("%s: dhclient has %s %s, the site file says %s", name, key, lease[key], value)
			}
		}
		for key, value := range lease {
			if _, ok := want[key]; !ok {
				t.Errorf("%s: dhclient has %s %s, the site file has none", name, key, value)
			}
		}
	}
	if len(offsets) != 2 || offsets["3600"] == 0 || offsets["7200"] == 0 {
		t.Errorf("%s: dhclient was told these offsets so many times: %v", name, offsets)
	}
}

// judge compares every answer that tshark saw at a ward with what the site file says,
// and returns how many there were.
func (h *hospitalNet) judge(t *testing.T, name string, patients []*patient) (judged int) {
	t.Helper()
	messages := pdmlOf(t, h.Lab, filepath.Join(h.Dir, name+".pcap"))
	asked, first := map[string][]byte{}, map[string]time.Time{} // by transaction
	for _, m := range messages {
		id := m.field("dhcp.id").Show
		if m.field("dhcp.type").Show == "1" {
			if _, again := first[id]; !again {
				first[id] = m.time
			}
			for _, f := range m.fields {
				if f.Name == "dhcp.option.type" && f.Show == "55" {
					asked[id] = octets(t, f.whole())
				}
			}
			continue
		}
		p := patientOf(t, m, patients)
		if p == nil {
			t.Errorf("%s: an answer to nobody: %s", name, m.field("dhcp.hw.mac_addr").Show)
			continue
		}
		judged++
		offset := time.Hour
		if !m.time.Before(h.change) {
			offset = 2 * time.Hour
		}
		faults := h.faults(t, m, p, asked[id], offset)
		if faults != nil && first[id].Before(h.change) && !m.time.Before(h.change) { // the server may have looked before the change
			faults = h.faults(t, m, p, asked[id], time.Hour)
		}
		if faults != nil {
			t.Errorf("%s: %s, at %s (summer begins at %s):\n%s", name, p.name(), m.time, h.change, strings.Join(faults, "\n"))
		}
		if judged > 20 && t.Failed() {
			break
		}
	}
	return judged
}

// faults are what is wrong with an answer.
func (h *hospitalNet) faults(t *testing.T, m pdmlMessage, p *patient, asked []byte, offset time.Duration) (faults []string) {
	t.Helper()
	fault := func(format string, args ...any) { faults = append(faults, fmt.Sprintf(format, args...)) }
	your, _ := netip.ParseAddr(m.field("dhcp.ip.your").Show)
	codes, values := p.wanted(asked, offset, h.rule, your)
	lease := p.ward.lease
	if p.mac != nil && slices.Equal(asked, hospitalDhclientCodes) {
		lease = 12
	}
	values[51] = []byte{byte(lease >> 24), byte(lease >> 16), byte(lease >> 8), byte(lease)}
	values[54] = ip4("192.0.2.2")
	if p.ward.name == "home" {
		values[54] = gatewayAtHome.Addr().AsSlice() // RFC 5107
	}
	codes = append([]byte{53, 54, 51}, codes...)
	var found []byte
	for _, f := range m.fields {
		if f.Name == "_ws.expert" {
			fault("tshark finds fault with the message")
		}
		if f.Name != "dhcp.option.type" || f.Value == "ff" || strings.Trim(f.Value, "0") == "" {
			continue // END and PAD
		}
		code, err := strconv.ParseUint(f.Show, 10, 8)
		if err != nil {
			t.Fatal(err)
		}
		found = append(found, byte(code))
		if _, wrong := f.leaves(); wrong != nil {
			fault("option %d: tshark finds fault with it: %q", code, wrong)
		}
		if want, got := values[byte(code)], octets(t, f.whole()); code != 53 && string(got) != string(want) {
			fault("option %d is %x, expected %x", code, got, want)
		}
	}
	if string(found) != string(codes) {
		fault("options %d, expected %d", found, codes)
	}
	if p.got.IsValid() && your != p.got || p.address.IsValid() && your != p.address {
		fault("address %s, expected %s", your, p.got)
	}
	file, next := "", "192.0.2.2"
	if p.pxe {
		file, next = "pxelinux.0", "192.0.2.6"
	}
	if got := m.field("dhcp.file").Show; got != file {
		fault("file %q, expected %q", got, file)
	}
	if got := m.field("dhcp.ip.server").Show; got != next {
		fault("siaddr %s, expected %s", got, next)
	}
	return faults
}

// patientOf is who an answer is for.
func patientOf(t *testing.T, m pdmlMessage, patients []*patient) *patient {
	t.Helper()
	var id []byte
	for _, f := range m.fields {
		if f.Name == "dhcp.option.type" && f.Show == "61" {
			id = octets(t, f.whole())
		}
	}
	mac, _ := net.ParseMAC(m.field("dhcp.hw.mac_addr").Show)
	for _, p := range patients {
		if p.mac != nil && p.mac.String() == mac.String() || p.mac == nil && id != nil && string(p.id) == string(id) {
			return p
		}
	}
	return nil
}

// octets reads hexadecimal digits with colons.
func octets(t *testing.T, text string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(text, ":", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}
