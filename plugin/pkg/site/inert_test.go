package site

import (
	"slices"
	"testing"
)

func TestInert(t *testing.T) {
	s, _, err := Parse("site.yaml", []byte(`
domain: imaging.example.org
classes: [{name: pxe, vendor-class: PXEClient}]
networks:
  - name: radiology
    subnet: 192.0.2.0/24
    probe: arp
    ddns: {mode: last-wins}
    pools: [{range: 192.0.2.100-192.0.2.199, clients: known}, 192.0.2.90]
devices:
  - {name: ct1, circuit-id: "01:02"}
  - {name: ct2}
  - {name: ct3, hardware-address: "00:00:5e:00:53:01"}
`))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, p := range s.Inert() {
		got = append(got, p.String())
	}
	const tail = " has no effect in this version"
	want := []string{
		`site.yaml:5:5: network "radiology": probe` + tail,
	}
	if !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}
