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
	"strings"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/vishvananda/netlink"

	"github.com/dicomnam/dicomnam/integration/lab"
	"github.com/dicomnam/dicomnam/integration/radiology"
	"github.com/dicomnam/dicomnam/plugin/pkg/dhcpopt"
)

// An asker asks a DHCP server as a relay in the client's namespace does.
type asker struct {
	conn   *net.UDPConn
	server netip.AddrPort
}

var relayAddress = netip.MustParsePrefix("192.0.2.9/24")

func newAsker(t *testing.T, l *lab.Lab) *asker {
	t.Helper()
	a := &asker{server: netip.AddrPortFrom(radiology.Server.Addr(), 67)}
	err := l.Client.Do(func() error {
		link, err := netlink.LinkByName(lab.Link)
		if err != nil {
			return err
		}
		address, err := netlink.ParseAddr(relayAddress.String())
		if err != nil {
			return err
		}
		if err := netlink.AddrAdd(link, address); err != nil {
			return err
		}
		a.conn, err = net.ListenUDP("udp4", &net.UDPAddr{IP: relayAddress.Addr().AsSlice(), Port: 67})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = a.conn.Close() })
	return a
}

// ask sends a message and returns the answer, parsed and as it came.
func (a *asker) ask(t *testing.T, m *dhcpv4.DHCPv4) (*dhcpv4.DHCPv4, []byte) {
	t.Helper()
	buffer := make([]byte, 4096)
	for range 30 {
		if _, err := a.conn.WriteToUDPAddrPort(m.ToBytes(), a.server); err != nil {
			t.Fatal(err)
		}
		if err := a.conn.SetReadDeadline(time.Now().Add(time.Second)); err != nil {
			t.Fatal(err)
		}
		for {
			n, err := a.conn.Read(buffer)
			if errors.Is(err, os.ErrDeadlineExceeded) {
				break
			}
			if err != nil {
				continue // ICMP says that the server does not listen yet
			}
			if r, err := dhcpv4.FromBytes(buffer[:n]); err == nil && r.TransactionID == m.TransactionID {
				return r, append([]byte(nil), buffer[:n]...)
			}
		}
	}
	t.Fatal("no answer")
	return nil, nil
}

// discover asks for options as the device CT1 does.
func (a *asker) discover(t *testing.T, codes []byte) (*dhcpv4.DHCPv4, []byte) {
	t.Helper()
	m, err := dhcpv4.New(
		dhcpv4.WithMessageType(dhcpv4.MessageTypeDiscover),
		dhcpv4.WithHwAddr(radiology.CT1.MAC),
		dhcpv4.WithRelay(relayAddress.Addr().AsSlice()),
		dhcpv4.WithOption(dhcpv4.OptMaxMessageSize(1500)),
		dhcpv4.WithOption(dhcpv4.OptAutoConfigure(dhcpv4.AutoConfigure)),
		dhcpv4.WithGeneric(dhcpv4.OptionParameterRequestList, codes),
	)
	if err != nil {
		t.Fatal(err)
	}
	return a.ask(t, m)
}

// all asks for the options of all cases.
func (a *asker) all(t *testing.T, cases []optionCase) dhcpv4.Options {
	t.Helper()
	got := dhcpv4.Options{}
	for _, codes := range batches(cases) {
		r, _ := a.discover(t, codes)
		for _, code := range codes {
			if v, ok := r.Options[code]; ok {
				got[code] = v
			}
		}
	}
	return got
}

// startSite starts coredhcp on a site file, with no more than addresses and options.
func startSite(t *testing.T, l *lab.Lab, site string, env ...string) *lab.Process {
	t.Helper()
	config := "server4:\n  listen: [\"%" + lab.Link + "\"]\n  plugins:\n    - server_id: " + radiology.Server.Addr().String() +
		"\n    - leases: site=" + l.Dir + "/site.yaml database=" + l.Dir + "/leases\n"
	writeFile(t, filepath.Join(l.Dir, "site.yaml"), site)
	writeFile(t, filepath.Join(l.Dir, "config.yml"), config)
	return startServer(t, l, lab.Command{
		Name: "coredhcp", Path: filepath.Join(binaries(t), "coredhcp"), Args: []string{"--conf", filepath.Join(l.Dir, "config.yml")}, Env: env,
	})
}

func startServer(t *testing.T, l *lab.Lab, c lab.Command) *lab.Process {
	t.Helper()
	p, err := l.Start(l.Server, c)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.WaitUDP(timeout(t, patience), 67); err != nil {
		t.Fatalf("%v\n%s", err, p.Tail(20))
	}
	return p
}

// optionPeers are servers that others wrote: how each is started with the options
// of the cases, and what it was told of a case ("": nothing).
var optionPeers = []struct {
	program string
	of      func(optionCase) string
	start   func(*testing.T, *lab.Lab, []optionCase, []string)
}{
	{"dhcpd", func(c optionCase) string { return c.dhcpd }, func(t *testing.T, l *lab.Lab, cases []optionCase, lines []string) {
		writeFile(t, filepath.Join(l.Dir, "dhcpd.leases"), "")
		writeFile(t, filepath.Join(l.Dir, "dhcpd.conf"), "ping-check false;\n"+dhcpdTypes(cases)+"subnet 192.0.2.0 netmask 255.255.255.0 {\n range 192.0.2.100 192.0.2.199;\n"+strings.Join(lines, "\n")+"\n}\n")
		startServer(t, l, lab.Command{Name: "dhcpd", Path: "dhcpd", Args: []string{
			"-4", "-f", "-d", "-cf", filepath.Join(l.Dir, "dhcpd.conf"), "-lf", filepath.Join(l.Dir, "dhcpd.leases"), "--no-pid", lab.Link}})
	}},
	{"kea-dhcp4", func(c optionCase) string { return c.kea }, func(t *testing.T, l *lab.Lab, cases []optionCase, lines []string) {
		writeFile(t, filepath.Join(l.Dir, "kea.json"), fmt.Sprintf(`{"Dhcp4": {"interfaces-config": {"interfaces": [%q]}, "lease-database": {"type": "memfile", "persist": false},
			"option-def": [%s],
			"subnet4": [{"id": 1, "subnet": "192.0.2.0/24", "pools": [{"pool": "192.0.2.100-192.0.2.199"}], "option-data": [%s]}]}}`, lab.Link, keaTypes(cases), strings.Join(lines, ",\n")))
		startServer(t, l, lab.Command{Name: "kea", Path: "kea-dhcp4", Args: []string{"-c", filepath.Join(l.Dir, "kea.json")},
			Env: []string{"KEA_PIDFILE_DIR=" + l.Dir, "KEA_LOCKFILE_DIR=" + l.Dir}})
	}},
	{"dnsmasq", func(c optionCase) string { return c.dnsmasq }, func(t *testing.T, l *lab.Lab, _ []optionCase, lines []string) {
		writeFile(t, filepath.Join(l.Dir, "dnsmasq.conf"), "port=0\ninterface="+lab.Link+"\ndhcp-authoritative\nno-ping\ndhcp-range=192.0.2.100,192.0.2.199,255.255.255.0\ndhcp-option="+
			strings.Join(lines, "\ndhcp-option=")+"\n")
		startServer(t, l, lab.Command{Name: "dnsmasq", Path: "dnsmasq", Args: []string{"--keep-in-foreground", "--log-facility=-", "--user=root", "--pid-file=",
			"--dhcp-leasefile=" + filepath.Join(l.Dir, "dnsmasq.leases"), "--conf-file=" + filepath.Join(l.Dir, "dnsmasq.conf")}})
	}},
}

// Every option is on the wire as other servers put it there that were told the
// same, or as its RFC prints it.
func TestOptionsOfPeers(t *testing.T) {
	cases := optionCases(t)
	l := newLab(t)
	startSite(t, l, optionsSite(cases))
	ours := newAsker(t, l).all(t, cases)
	judges := make(map[string][]string) // by the option's name
	for _, c := range cases {
		if v, ok := ours[byte(c.Code)]; !ok {
			t.Errorf("%s: not sent", c)
		} else if c.want != "" {
			judges[c.Name] = append(judges[c.Name], "RFC")
			if got := hex.EncodeToString(v); got != c.want {
				t.Errorf("%s: %s, the RFC has %s", c, got, c.want)
			}
		}
	}
	present := 0
	for _, peer := range optionPeers {
		t.Run(peer.program, func(t *testing.T) {
			needs(t, peer.program)
			if err := lab.Confined(peer.program); err != nil {
				t.Skip(err)
			}
			present++
			var told []optionCase
			var lines []string
			for _, c := range cases {
				if line := peer.of(c); line != "" {
					told, lines = append(told, c), append(lines, line)
				}
			}
			l := newLab(t)
			peer.start(t, l, cases, lines)
			theirs := newAsker(t, l).all(t, told)
			for _, c := range told {
				judges[c.Name] = append(judges[c.Name], peer.program)
				v, ok := theirs[byte(c.Code)]
				if !ok {
					t.Errorf("%s: %s did not send it (%s)", c, peer.program, peer.of(c))
				} else if got, want := hex.EncodeToString(ours[byte(c.Code)]), hex.EncodeToString(v); got != want {
					t.Errorf("%s: %s, %s sends %s", c, got, peer.program, want)
				}
			}
		})
	}
	for _, c := range cases {
		by := judges[c.Name]
		if c.Type == dhcpopt.Bytes { // dnsmasq was told the octets themselves
			by = slices.DeleteFunc(by, func(name string) bool { return name == "dnsmasq" })
			if typed := typedCases[c.Name]; typed.tshark != nil || typed.framing != "" {
				by = append(by, "tshark") // in TestOptionsParsed
			}
		}
		if present == len(optionPeers) && len(by) == 0 {
			t.Errorf("%s: nobody judged it", c)
		}
	}
}
