package dicom

import (
	"net"
	"net/netip"
	"os"
	"slices"

	"github.com/dicomnam/dicomnam/plugin/pkg/site"
)

// A loadedSite is a site file as it was read.
type loadedSite struct {
	site     *site.Site // nil where no site file is configured
	warnings []site.Problem
	state    fileState
}

// loadSite reads and validates a site file.
func loadSite(path string) (loadedSite, error) {
	// The state comes first: a change while reading shows at the next look.
	state := stateOf(path)
	s, warnings, err := site.Load(path)
	return loadedSite{site: s, warnings: warnings, state: state}, err
}

// A fileState tells versions of a file apart without reading it: by size, time
// and identity, so that editors which write a new file and rename it are seen,
// and mounted configuration where a link is switched.
type fileState struct {
	info os.FileInfo // nil if there is none
}

func stateOf(path string) fileState {
	info, err := os.Stat(path)
	if err != nil {
		return fileState{}
	}
	return fileState{info}
}

func (s fileState) same(o fileState) bool {
	if s.info == nil || o.info == nil {
		return s.info == nil && o.info == nil
	}
	return s.info.ModTime().Equal(o.info.ModTime()) && s.info.Size() == o.info.Size() && os.SameFile(s.info, o.info)
}

// withServerAddress returns s with an address for the name servers that have
// none and are called ns.DOMAIN: this server's. It is the one that the block is
// bound to, else that of an interface in one of the site's networks. Where there
// is no such address, somebody else has to publish it, or nobody follows the NS.
func withServerAddress(s *site.Site, listen []string, interfaces func() []netip.Addr) *site.Site {
	if !lacksAddress(s) {
		return s
	}
	address := serverAddress(s, listen, interfaces)
	if !address.IsValid() {
		return s
	}
	c := *s
	c.NameServers = slices.Clone(s.NameServers)
	for i, ns := range c.NameServers {
		if isOwn(s, ns) {
			c.NameServers[i].Address = address
		}
	}
	return &c
}

// lacksAddress reports whether s has a name server that needs this server's address.
func lacksAddress(s *site.Site) bool {
	return slices.ContainsFunc(s.NameServers, func(ns site.NameServer) bool { return isOwn(s, ns) })
}

func isOwn(s *site.Site, ns site.NameServer) bool {
	return !ns.Address.IsValid() && ns.Host == "ns."+s.Domain
}

func serverAddress(s *site.Site, listen []string, interfaces func() []netip.Addr) netip.Addr {
	usable := func(a netip.Addr) bool { return a.IsGlobalUnicast() && !a.IsLoopback() }
	for _, host := range listen {
		if a, err := netip.ParseAddr(host); err == nil && usable(a) {
			return a.Unmap()
		}
	}
	for _, a := range interfaces() {
		if usable(a) && s.NetworkOf(a) != nil {
			return a
		}
	}
	return netip.Addr{}
}

// interfaceAddresses returns the addresses of this host, none if it cannot tell;
// a variable so that tests can bring an interface up.
var interfaceAddresses = func() []netip.Addr {
	all, err := net.InterfaceAddrs()
	if err != nil {
		return nil
	}
	var addresses []netip.Addr
	for _, a := range all {
		if p, err := netip.ParsePrefix(a.String()); err == nil {
			addresses = append(addresses, p.Addr().Unmap())
		}
	}
	return addresses
}
