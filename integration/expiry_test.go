//go:build linux

package integration

import (
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/dicomnam/dicomnam/integration/lab"
	"github.com/dicomnam/dicomnam/integration/radiology"
)

// The lease of a machine that is gone without a word ends when its time is over,
// and with it everything that was published: no dead lease leaves a service.
func TestExpiry(t *testing.T) {
	t.Parallel()
	const leaseTime = 20 * time.Second // in which the names are seen
	l := newLab(t)
	n := startNetwork(t, l, radiology.Options{LeaseTime: leaseTime})
	since := time.Now()
	client, got := lease(t, l, lab.Builtin, radiology.CT1.Machine)
	if got.Duration != leaseTime {
		t.Fatalf("lease of %s, expected %s", got.Duration, leaseTime)
	}
	client.Kill()
	request := waitRequest(t, l, since, selecting)
	questions := append(names(t, radiology.CT1.Host, got),
		question{"CT1._dicom._tcp." + radiology.Domain, dns.TypeSRV},
		question{"CT1_TLS._dicom-tls._tcp." + radiology.Domain, dns.TypeTXT})
	await(t, n, lab.Present, questions...)
	for _, q := range questions {
		// A lease lasts at least as long as was promised (RFC 2131 section 3.3).
		at := await(t, n, lab.Absent, q)
		if after := at.Sub(request.Time); after < leaseTime-time.Second {
			t.Errorf("%s %s vanished %s after the REQUEST of a lease of %s", q.name, dns.TypeToString[q.qtype], after, leaseTime)
		}
	}
	expect(t, n, lab.Present, question{"_dicom._tcp." + radiology.Domain, dns.TypePTR}) // of oldmr
}
