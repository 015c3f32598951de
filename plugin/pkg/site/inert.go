package site

import (
	"fmt"

	"github.com/dicomnam/dicomnam/plugin/pkg/site/internal/strictyaml"
)

// Inert returns a warning for each setting that is read and checked but that no server acts on in this version: who writes
// "known clients only" must not believe that strangers are kept out.
func (s *Site) Inert() []Problem {
	var list []Problem
	warn := func(at Position, format string, args ...any) {
		list = append(list, Problem{s.File, at, fmt.Sprintf(format, args...) + " has no effect in this version"})
	}
	for i := range s.Classes {
		warn(s.Classes[i].Position, "class %s", strictyaml.Quote(s.Classes[i].Name))
	}
	for i := range s.Networks {
		n := &s.Networks[i]
		name := strictyaml.Quote(n.Name)
		if n.Probe != ProbeNone {
			warn(n.Position, "network %s: probe", name)
		}
		if m := n.DDNS.Mode; m == DDNSKeepStatic || m == DDNSLastWins {
			warn(n.Position, "network %s: ddns mode %s", name, m)
		}
		for _, pool := range n.Pools {
			if pool.Clients != AnyClients || pool.Class != "" {
				warn(n.Position, "network %s: the restriction of pool %s-%s to some clients", name, pool.First, pool.Last)
			}
		}
	}
	for i := range s.Devices {
		d := &s.Devices[i]
		name := strictyaml.Quote(d.Name)
		if d.CircuitID != nil || d.RemoteID != nil {
			warn(d.Position, "device %s: circuit-id or remote-id", name)
		}
		if d.DHCP && len(d.HardwareAddresses) == 0 && d.ClientIdentifier == nil && d.CircuitID == nil && d.RemoteID == nil {
			warn(d.Position, "device %s: recognising it by its host name", name)
		}
	}
	return list
}
