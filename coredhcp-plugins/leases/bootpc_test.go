package leases

import (
	"context"
	"net"
	"os/exec"
	"runtime"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
)

// TestBootpc has bootpc, a BOOTP client of its own, boot from the server.
func TestBootpc(t *testing.T) {
	path, err := exec.LookPath("bootpc")
	if err != nil {
		t.Skip("bootpc is not installed (Debian package bootpc)")
	}
	w := newWire(t, pluginLines(t, `
domain: imaging.example.org
options: {domain-name-servers: [192.0.2.3]}
networks:
  - {name: radiology, subnet: 192.0.2.0/24, pools: [192.0.2.100-192.0.2.199], options: {routers: [192.0.2.1]}}
devices:
  - name: pump
    hardware-address: "`+farHardware.String()+`"
    address: 192.0.2.13
    options: {tftp-server-name: 192.0.2.5, boot-file-name: pump.img}
`, "")...)
	// The far end of the wire goes into a namespace of its own: the kernel would not
	// take an answer from its own address off the wire.
	link, err := netlink.LinkByName(far)
	w.must(err)
	spaces := make(chan netns.NsHandle)
	result := make(chan error)
	var out []byte
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends in its namespace
		ns, err := netns.New()
		spaces <- ns
		if err != nil {
			return
		}
		<-spaces // the link is there
		result <- func() error {
			link, err := netlink.LinkByName(far)
			if err != nil {
				return err
			}
			if err := netlink.LinkSetUp(link); err != nil {
				return err
			}
			// bootpc looks for a route to 255.255.255.255.
			all := &net.IPNet{IP: net.IPv4bcast, Mask: net.CIDRMask(32, 32)}
			if err := netlink.RouteAdd(&netlink.Route{LinkIndex: link.Attrs().Index, Dst: all, Scope: netlink.SCOPE_LINK}); err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			out, err = exec.CommandContext(ctx, path, "--dev", far, "--serverbcast", "--returniffail", "--timeoutwait", "50").CombinedOutput()
			return err
		}()
	}()
	ns := <-spaces
	if !ns.IsOpen() {
		t.Fatal("no namespace for the client")
	}
	defer ns.Close()
	w.must(netlink.LinkSetNsFd(link, int(ns)))
	spaces <- ns
	if err := <-result; err != nil {
		t.Fatalf("bootpc: %v\n%s", err, out)
	}
	for _, want := range []string{
		"IPADDR='192.0.2.13'", "NETMASK='255.255.255.0'", "BROADCAST='192.0.2.255'", "GATEWAYS='192.0.2.1'", "DNSSRVS='192.0.2.3'",
		"HOSTNAME='pump'", "DOMAIN='imaging.example.org'", "SERVER='192.0.2.5'", "BOOTFILE='pump.img'",
	} {
		if !strings.Contains(string(out), want) {
			t.Errorf("bootpc has not found %s:\n%s", want, out)
		}
	}
}
