// Command coredns is CoreDNS with every one of its default plugins, and dicom.
//
// It only wires: the plugins register themselves, and the directive list says
// in which order a query meets them.
package main

import (
	"slices"

	"github.com/coredns/coredns/core/dnsserver"
	_ "github.com/coredns/coredns/core/plugin" // every default plugin

	"github.com/dicomnam/dicomnam/build/coredns/dnsmain"
	_ "github.com/dicomnam/dicomnam/plugin/dicom"
)

func main() {
	dnsmain.Run(dnsmain.Program{Directives: directives(dnsserver.Directives)})
}

// directives is CoreDNS's order with dicom directly after dynupdate: before
// hosts, which answers an UPDATE with NOERROR without looking at the opcode.
func directives(stock []string) []string {
	return slices.Insert(slices.Clone(stock), slices.Index(stock, "dynupdate")+1, "dicom")
}
