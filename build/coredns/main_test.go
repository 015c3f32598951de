package main

import (
	"slices"
	"testing"

	"github.com/coredns/coredns/core/dnsserver"
)

func TestDirectives(t *testing.T) {
	got := directives(dnsserver.Directives)
	if i := slices.Index(got, "dicom"); i < 1 || got[i-1] != "dynupdate" || got[i+1] != "hosts" {
		t.Errorf("dicom must stand between dynupdate and hosts, got %q", got)
	}
	without := slices.DeleteFunc(slices.Clone(got), func(d string) bool { return d == "dicom" })
	if !slices.Equal(without, dnsserver.Directives) {
		t.Errorf("the stock directives changed: got %q, want %q", without, dnsserver.Directives)
	}
}
