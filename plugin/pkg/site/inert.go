package site

import (
	"fmt"

	"github.com/dicomnam/dicomnam/plugin/pkg/site/internal/strictyaml"
)

// Inert returns a warning for each setting that is read and checked but that no server acts on in this version: who writes
// "probe" must not believe that addresses are tried.
func (s *Site) Inert() []Problem {
	var list []Problem
	warn := func(at Position, format string, args ...any) {
		list = append(list, Problem{s.File, at, fmt.Sprintf(format, args...) + " has no effect in this version"})
	}
	for i := range s.Networks {
		n := &s.Networks[i]
		name := strictyaml.Quote(n.Name)
		if n.Probe != ProbeNone {
			warn(n.Position, "network %s: probe", name)
		}
	}
	return list
}
