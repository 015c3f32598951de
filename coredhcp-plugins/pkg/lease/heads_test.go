package lease

import (
	"fmt"
	"math"
	"testing"
)

// TestHeads holds heads against a map, while hashes come and go of which few begin the search at a place of their own.
func TestHeads(t *testing.T) {
	for _, c := range []struct{ homes, others uint32 }{{1, 300}, {7, 100}, {64, 20}, {1 << 16, 1}, {1 << 16, 2}} {
		t.Run(fmt.Sprintf("%d homes for %d each", c.homes, c.others), func(t *testing.T) {
			r := newRand(t)
			// The last of the table's places are among the homes, so that searches go on at its beginning.
			hash := func() uint32 { return math.MaxUint32 - r.Uint32N(c.homes) - r.Uint32N(c.others)<<16 }
			var h heads
			want := map[uint32]number{}
			for i := range number(30_000) {
				switch k := hash(); {
				case r.IntN(3) > 0 && int(i) < 20_000 || r.IntN(3) == 0:
					h.set(k, i+1)
					want[k] = i + 1
				case want[k] != 0:
					h.remove(k)
					delete(want, k)
				}
				if k := hash(); h.get(k) != want[k] {
					t.Fatalf("step %d: %x is %d, want %d", i, k, h.get(k), want[k])
				}
			}
			for k, n := range want {
				if h.get(k) != n {
					t.Errorf("%x is %d, want %d", k, h.get(k), n)
				}
			}
			if h.used != len(want) || len(want) == 0 || 3*h.used > 2*len(h.places) {
				t.Errorf("%d in use of %d places, want %d", h.used, len(h.places), len(want))
			}
			for k := range want {
				h.remove(k)
			}
			for i, p := range h.places {
				if p != 0 {
					t.Errorf("place %d has %x, want nothing", i, p)
				}
			}
		})
	}
}
