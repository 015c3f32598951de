package server

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/vishvananda/netlink"
)

// interfaceAge is how old the server's knowledge of the interfaces and their
// addresses may be. Asking the kernel costs far more than an exchange does.
const interfaceAge = time.Second

// netInterface is a network interface as it was at some moment. It is not
// changed after it was made.
type netInterface struct {
	index    int
	name     string
	hardware net.HardwareAddr
	prefixes []netip.Prefix // IPv4 addresses with the length of their network
	addrs    []netip.Addr   // the addresses alone
}

// has says whether a is an address of the interface.
func (i *netInterface) has(a netip.Addr) bool {
	return slices.Contains(i.addrs, a)
}

// beside returns the interface's address on the network that a is in.
func (i *netInterface) beside(a netip.Addr) (own netip.Addr, ok bool) {
	for _, p := range i.prefixes {
		if p.Contains(a) {
			return p.Addr(), true
		}
	}
	return netip.Addr{}, false
}

// interfaceTable holds all interfaces as they were at one moment.
type interfaceTable struct {
	at      time.Time
	byIndex map[int]*netInterface
	byName  map[string]*netInterface
	local   map[netip.Addr]bool // the addresses of all interfaces
}

// interfaces knows the machine's interfaces. Its table is replaced as a whole, so
// that readers take no lock.
type interfaces struct {
	list  func() ([]*netInterface, error)
	now   func() time.Time
	mu    sync.Mutex // held while asking the kernel
	table atomic.Pointer[interfaceTable]
}

func newInterfaces() *interfaces { return &interfaces{list: listInterfaces, now: time.Now} }

// get returns the table, asking the kernel when it is older than age. When that
// fails the old table stays in use and is returned with the error; the table is
// never nil.
func (s *interfaces) get(age time.Duration) (*interfaceTable, error) {
	if t := s.table.Load(); t != nil && s.now().Sub(t.at) < age {
		return t, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	old := s.table.Load()
	if old != nil && s.now().Sub(old.at) < age {
		return old, nil // another goroutine has just asked
	}
	t := &interfaceTable{
		at:      s.now(),
		byIndex: make(map[int]*netInterface),
		byName:  make(map[string]*netInterface),
		local:   make(map[netip.Addr]bool),
	}
	found, err := s.list()
	if err != nil {
		if old != nil {
			// Not asked again for each packet.
			t.byIndex, t.byName, t.local = old.byIndex, old.byName, old.local
		}
		s.table.Store(t)
		return t, fmt.Errorf("listing interfaces: %w", err)
	}
	for _, i := range found {
		t.byIndex[i.index], t.byName[i.name] = i, i
		for _, a := range i.addrs {
			t.local[a] = true
		}
	}
	s.table.Store(t)
	return t, nil
}

// byIndex finds the interface that a packet came in on.
func (s *interfaces) byIndex(index int) (*netInterface, *interfaceTable, bool) {
	t, _ := s.get(2 * interfaceAge) // readers of sockets keep it younger than that
	i, ok := t.byIndex[index]
	if !ok {
		t, _ = s.get(interfaceAge / 10) // it may have come just now
		i, ok = t.byIndex[index]
	}
	return i, t, ok
}

func listInterfaces() ([]*netInterface, error) {
	links, err := net.Interfaces()
	if err != nil {
		return nil, err
	}
	addrs, err := netlink.AddrList(nil, netlink.FAMILY_V4)
	for try := 0; errors.Is(err, netlink.ErrDumpInterrupted) && try < 3; try++ {
		addrs, err = netlink.AddrList(nil, netlink.FAMILY_V4)
	}
	if err != nil {
		return nil, err
	}
	found := make([]*netInterface, 0, len(links))
	byIndex := make(map[int]*netInterface, len(links))
	for _, l := range links {
		i := &netInterface{index: l.Index, name: l.Name, hardware: l.HardwareAddr}
		byIndex[l.Index] = i
		found = append(found, i)
	}
	for _, a := range addrs {
		i, known := byIndex[a.LinkIndex]
		ip := Address(a.IP)
		if !known || !ip.IsValid() {
			continue
		}
		ones, _ := a.Mask.Size()
		i.prefixes = append(i.prefixes, netip.PrefixFrom(ip, ones))
		i.addrs = append(i.addrs, ip)
	}
	return found, nil
}

// serverID chooses the server identifier for a request that came to the address
// dst, for servers without a configured one: an address that the client has
// already heard of (option 54) or sent to, else the one on the client's network,
// else the interface's first.
func (i *netInterface) serverID(t *interfaceTable, req *dhcpv4.DHCPv4, dst netip.Addr) netip.Addr {
	if named := Address(req.Options[optServerID]); i.has(named) || t.local[named] && !named.IsLoopback() {
		return named
	}
	if t.local[dst] {
		return dst
	}
	for _, ip := range []net.IP{req.GatewayIPAddr, req.ClientIPAddr, net.IP(req.Options[optRequestedIP])} {
		if a := Address(ip); a.IsValid() {
			if own, ok := i.beside(a); ok {
				return own
			}
		}
	}
	for _, a := range i.addrs {
		if !a.IsLinkLocalUnicast() {
			return a
		}
	}
	if len(i.addrs) > 0 {
		return i.addrs[0]
	}
	return netip.Addr{}
}
