package dhcpmain

import (
	"slices"
	"testing"

	"github.com/coredhcp/coredhcp/plugins"

	"github.com/dicomnam/dicomnam/coredhcp-plugins/leases"
)

// Our plugins are in our server by themselves; CoreDHCP's has what it is given.
func TestNames(t *testing.T) {
	other := &plugins.Plugin{Name: "file"}
	if got, want := (Program{Plugins: []*plugins.Plugin{other}}).names(), []string{"file", "leases"}; !slices.Equal(got, want) {
		t.Errorf("ours: %q, want %q", got, want)
	}
	if got, want := (Program{Stock: true, Plugins: []*plugins.Plugin{other}}).names(), []string{"file"}; !slices.Equal(got, want) {
		t.Errorf("stock: %q, want %q", got, want)
	}
	p := Program{Stock: true, Plugins: []*plugins.Plugin{other, &leases.Plugin}}
	if got, want := p.names(), []string{"file", "leases"}; !slices.Equal(got, want) {
		t.Errorf("stock with leases: %q, want %q", got, want)
	}
}
