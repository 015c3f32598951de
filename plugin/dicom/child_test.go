package dicom

import (
	"fmt"
	"path/filepath"
	"testing"

	"github.com/miekg/dns"
)

// TestServiceOfHostInChildZone: the services of a host whose name belongs to
// another of the zones, below that of the services, stand always: the zone that
// has them does not see its address.
func TestServiceOfHostInChildZone(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "site.yaml", `domain: imaging.example.org
name-servers: [{host: ns1, address: 192.0.2.2}]
networks:
  - {name: one, subnet: 192.0.2.0/24, pools: [192.0.2.100-192.0.2.199]}
devices:
  - name: ct1
    hostname: ct1.ward
    hardware-address: 00:00:5e:00:53:01
    applications: [{ae-title: CT1, port: 104}]
  - name: oldmr
    hostname: oldmr.ward
    address: 192.0.2.20
    dhcp: false
    applications: [{ae-title: OLDMR, port: 104}]
`)
	const child = "ward." + domain
	s := start(t, fmt.Sprintf(`imaging.example.org:0 {
	bind 127.0.0.1
	tsig {
		secret %s %s
	}
	transfer {
		to *
	}
	dicom imaging.example.org ward.imaging.example.org {
		site %s
		allow %s * *
	}
}`, key, secret, filepath.Join(dir, "site.yaml"), key))
	s.want(t, "_dicom._tcp."+domain, "PTR", "CT1._dicom._tcp.imaging.example.org., OLDMR._dicom._tcp.imaging.example.org.")
	s.update(t, dns.RcodeSuccess, child, "ct1.ward.imaging.example.org. 300 A 192.0.2.101")
	s.want(t, "CT1._dicom._tcp."+domain, "SRV", "0 0 104 ct1.ward.imaging.example.org.")
	s.want(t, "oldmr.ward."+domain, "A", "192.0.2.20")
}
