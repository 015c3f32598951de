package server

import (
	"context"
	"errors"
	"net"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// startServer runs the server until its sockets are open, else it returns Run's error.
func startServer(t *testing.T, listen string) (stop func() error, err error) {
	t.Helper()
	s := newServer(t, "server4: {"+listen+"plugins: [{"+registerFake(allocator())+": }]}")
	ctx, cancel := context.WithCancel(context.Background())
	result := make(chan error, 1)
	go func() { result <- s.Run(ctx) }()
	select {
	case <-s.listening:
	case err := <-result:
		cancel()
		return nil, err
	case <-time.After(longest):
		cancel()
		t.Fatal("the server does not listen")
	}
	return func() error {
		cancel()
		return <-result
	}, nil
}

// sharing is a socket of another program that would share, as dhcpd's and
// dnsmasq's do; "": at every interface.
func sharing(ifname string) (net.PacketConn, error) {
	config := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) (err error) {
		failed := c.Control(func(fd uintptr) {
			err = os.NewSyscallError("setsockopt", unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1))
			if ifname != "" && err == nil {
				err = unix.BindToDevice(int(fd), ifname)
			}
		})
		return errors.Join(err, failed)
	}}
	return config.ListenPacket(context.Background(), "udp4", ":67")
}

// try opens and closes one at the server's port.
func try(ifname string) error {
	c, err := sharing(ifname)
	if err != nil {
		return err
	}
	return c.Close()
}

// TestTaken starts a server where others listen already.
func TestTaken(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	far := newNamespace(t)
	vlan(t, "server0", far)
	for _, name := range []string{"server1", "server2"} {
		a := netlink.NewLinkAttrs()
		a.Name = name
		link := &netlink.Veth{LinkAttrs: a, PeerName: name + "far"}
		if err := errors.Join(netlink.LinkAdd(link), netlink.LinkSetUp(link)); err != nil {
			t.Fatal(err)
		}
	}
	const message = " port 67: another DHCP server or relay is listening there"
	all := []string{`"%server0"`, `"%server1"`, `"%server2"`, `"0.0.0.0"`, `"192.0.2.2"`, `"192.0.2.2%server0"`}
	for name, tc := range map[string]struct {
		first, second string // `listen` of two servers
		taken         string // where the second finds the first; "": nowhere
	}{
		"one interface":                     {`"%server0"`, `"%server0"`, "server0"},
		"two interfaces":                    {`"%server0"`, `"%server1"`, ""},
		"one of several":                    {`"%server0"`, `"%server1", "%server0"`, "server0"},
		"every interface after one":         {`"%server0"`, `"0.0.0.0"`, "0.0.0.0"},
		"one after every interface":         {`"0.0.0.0"`, `"%server0"`, "server0"},
		"an address of the interface":       {`"%server0"`, `"192.0.2.2"`, "192.0.2.2"},
		"an address at the interface":       {`"%server0"`, `"192.0.2.2%server0"`, "192.0.2.2%server0"},
		"an address and an interface":       {`"192.0.2.2%server0"`, `"%server1"`, ""},
		"what shares with its own finds it": {`"%server1"`, `"%server0", "%server1", "0.0.0.0"`, "0.0.0.0"},
		"another port":                      {`"%server0"`, `"%server0:1067"`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			stop, err := startServer(t, "listen: ["+tc.first+"], ")
			if err != nil {
				t.Fatal(err)
			}
			second, err := startServer(t, "listen: ["+tc.second+"], ")
			switch {
			case tc.taken == "" && err != nil:
				t.Error(err)
			case tc.taken != "" && (err == nil || err.Error() != "DHCPv4: "+tc.taken+message):
				t.Errorf("the second server: %v", err)
			}
			if second != nil {
				if err := second(); err != nil {
					t.Error(err)
				}
			}
			if tc.first == `"%server0"` {
				if _, err := acquire(t, far); err != nil {
					t.Errorf("a client of the first: %v", err)
				}
			}
			if err := stop(); err != nil {
				t.Fatal(err)
			}
		})
	}
	t.Run("all at once, in any order, and again", func(t *testing.T) {
		for range all {
			all = append(all[1:], all[0])
			stop, err := startServer(t, "listen: ["+strings.Join(all, ", ")+"], ")
			if err != nil {
				t.Fatal(err)
			}
			// None is left that another could share.
			for _, other := range []string{"", "server0", "server1"} {
				if err := try(other); !errors.Is(err, unix.EADDRINUSE) {
					t.Errorf("a socket at %q beside %s: %v", other, all, err)
				}
			}
			if err := stop(); err != nil {
				t.Fatal(err)
			}
		}
	})
	t.Run("without listen", func(t *testing.T) {
		stop, err := startServer(t, "")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := startServer(t, ""); err == nil || err.Error() != "DHCPv4: 0.0.0.0"+message {
			t.Errorf("the second server: %v", err)
		}
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
	t.Run("another program", func(t *testing.T) {
		c, err := sharing("server1")
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		for listen, taken := range map[string]string{
			`"%server1"`:            "server1",
			`"0.0.0.0"`:             "0.0.0.0",
			`"%server0", "0.0.0.0"`: "0.0.0.0",
		} {
			if _, err := startServer(t, "listen: ["+listen+"], "); err == nil || err.Error() != "DHCPv4: "+taken+message {
				t.Errorf("a server at %s: %v", listen, err)
			}
		}
	})
}

// TestTakenLater has an interface come, go and come again whose sockets share with
// each other: then they share with nobody else's.
func TestTakenLater(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	far := newNamespace(t)
	s := newServer(t, `server4: {listen: ["%server0", "192.0.2.2%server0", "%never0"], plugins: [{`+registerFake(allocator())+": }]}")
	runServer(t, s)
	for range 2 {
		vlan(t, "server0", far)
		link, err := netlink.LinkByName("server0")
		if err != nil {
			t.Fatal(err)
		}
		bound := func() (n int) {
			s.socketsMu.Lock()
			defer s.socketsMu.Unlock()
			for _, l := range s.sockets {
				if l.iface.index == link.Attrs().Index {
					n++
				}
			}
			return n
		}
		for begin := time.Now(); bound() < 2; time.Sleep(time.Millisecond) {
			if time.Since(begin) > longest {
				t.Fatalf("%d sockets at the interface", bound())
			}
		}
		if _, err := acquire(t, far); err != nil {
			t.Fatal(err)
		}
		if err := try("server0"); !errors.Is(err, unix.EADDRINUSE) {
			t.Errorf("a socket at server0 beside ours: %v", err)
		}
		if err := netlink.LinkDel(link); err != nil {
			t.Fatal(err)
		}
	}
}

func TestWidestFirst(t *testing.T) {
	t.Parallel()
	addresses := []net.UDPAddr{
		{IP: ip("192.0.2.2"), Zone: "eth0"}, {IP: ip("0.0.0.0"), Zone: "eth1"}, {IP: ip("192.0.2.2")},
		{Zone: "eth2"}, {}, {IP: ip("0.0.0.0")},
	}
	if got, want := widestFirst(addresses), []int{4, 5, 2, 1, 3, 0}; !slices.Equal(got, want) {
		t.Errorf("order %v, want %v", got, want)
	}
}
