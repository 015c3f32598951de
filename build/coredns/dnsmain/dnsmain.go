// Package dnsmain runs CoreDNS as the coredns programs of this module do: with
// room for bursts of queries, and garbage that waits for its collection. What is
// in a program is its main's choice: plugins register themselves when they are
// imported, and the Program says in which order a query meets them.
package dnsmain

import (
	"flag"
	"fmt"
	"os"
	"runtime"

	"github.com/coredns/caddy"
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/coremain"
)

// A Program is what differs from one coredns to the next.
type Program struct {
	Directives []string // in the order in which a query meets them; all are registered
	BuiltFrom  string   // what -version prints after CoreDNS's own lines; "": nothing
}

// Run is the main function of a coredns. It does not return.
func Run(p Program) {
	if err := dnsserver.SetDirectives(p.Directives); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	if p.BuiltFrom != "" {
		flag.Parse()
		if f := flag.Lookup("version"); f != nil && f.Value.String() == "true" {
			fmt.Printf("%s-%s\n%s/%s, %s, %s\n%s", caddy.AppName, caddy.AppVersion,
				runtime.GOOS, runtime.GOARCH, runtime.Version(), coremain.GitCommit, p.BuiltFrom)
			os.Exit(0)
		}
	}
	giveHeadroom()
	useProcessors()
	coremain.Run()
}
