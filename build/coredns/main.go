// Command coredns is CoreDNS with every one of its default plugins, and dicom.
//
// It only wires: the plugins register themselves, and the directive list says
// in which order a query meets them.
package main

import (
	"fmt"
	"os"
	"slices"

	"github.com/coredns/coredns/core/dnsserver"
	_ "github.com/coredns/coredns/core/plugin" // every default plugin
	"github.com/coredns/coredns/coremain"

	_ "github.com/dicomnam/dicomnam/plugin/dicom"
)

func main() {
	if err := dnsserver.SetDirectives(directives(dnsserver.Directives)); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	giveHeadroom()
	coremain.Run()
}

// directives is CoreDNS's order with dicom directly after dynupdate: before
// hosts, which answers an UPDATE with NOERROR without looking at the opcode.
func directives(stock []string) []string {
	return slices.Insert(slices.Clone(stock), slices.Index(stock, "dynupdate")+1, "dicom")
}
