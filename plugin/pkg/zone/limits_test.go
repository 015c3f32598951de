package zone_test

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/dicomnam/dicomnam/plugin/pkg/zone"
	"github.com/miekg/dns"
)

func TestLimits(t *testing.T) {
	refused := func(t *testing.T, z *zone.Zone, lines ...string) {
		t.Helper()
		before := dump(z)
		rcode, err := update(t, z, lines...)
		if rcode != dns.RcodeRefused || !errors.Is(err, zone.ErrLimit) {
			t.Fatalf("%s, %v", dns.RcodeToString[rcode], err)
		}
		if !slices.Equal(before, dump(z)) {
			t.Fatal("a refused update changed something")
		}
	}
	t.Run("records", func(t *testing.T) {
		z := memory(t)
		z.Configure(zone.Config{Limits: zone.Limits{Records: 5}})
		mustUpdate(t, z, "add a.example.org. 1 IN A 192.0.2.1")
		refused(t, z, "add b.example.org. 1 IN A 192.0.2.1")
		mustUpdate(t, z, "del a.example.org. 0 IN A 192.0.2.1", "add b.example.org. 1 IN A 192.0.2.1")
		z.Configure(zone.Config{Limits: zone.Limits{Records: 2}})
		mustUpdate(t, z, "delname b.example.org.") // over a lowered limit, but smaller than before
	})
	t.Run("octets", func(t *testing.T) {
		z := memory(t)
		z.Configure(zone.Config{Limits: zone.Limits{Bytes: z.Snapshot().Size() + 40}})
		mustUpdate(t, z, "add a.example.org. 1 IN A 192.0.2.1")
		refused(t, z, "add b.example.org. 1 IN A 192.0.2.1")
	})
	t.Run("records of an update", func(t *testing.T) {
		z := memory(t)
		z.Configure(zone.Config{Limits: zone.Limits{UpdateRecords: 2}})
		pre := parse(t, "yx www.example.org.")
		rcode, err := z.Update(context.Background(), pre, parse(t, "delname a.example.org.", "delname b.example.org."), all)
		if rcode != dns.RcodeRefused || !errors.Is(err, zone.ErrLimit) {
			t.Fatalf("%s, %v", dns.RcodeToString[rcode], err)
		}
		mustUpdate(t, z, "delname a.example.org.", "delname b.example.org.")
	})
}
