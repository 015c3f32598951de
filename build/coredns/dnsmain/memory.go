package dnsmain

import (
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
)

// headroom is how much memory is allocated between two garbage collections at
// least, in bytes, and so about what the process holds beyond twice its data.
//
// Go collects when the heap has doubled. A zone of 10,000 records is some 20 MB,
// so that a server that takes updates as fast as it can would collect ten times a
// second, each time going through the whole zone while answers wait; but to let
// the heap grow fourfold, as GOGC=400 would, is too much where the zone is 500 MB.
const headroom = 128 << 20

// giveHeadroom lets garbage gather up to the headroom, or up to the size of the
// live heap where that is more. It does nothing if the administrator has said
// what to do, with GOGC or GOMEMLIMIT.
func giveHeadroom() {
	if os.Getenv("GOGC") != "" || os.Getenv("GOMEMLIMIT") != "" {
		return
	}
	h := &heap{live: []metrics.Sample{{Name: "/gc/heap/live:bytes"}}, percent: 100}
	h.collected(new(cycle))
}

// A cycle is garbage: the next collection finds it, which tells that there was one.
type cycle struct{ _ *heap }

type heap struct {
	live    []metrics.Sample
	percent int
}

// collected sets the GC percent for the heap as the last collection has left it.
func (h *heap) collected(*cycle) {
	metrics.Read(h.live)
	// Setting it stops the program for a moment: not for nothing.
	if p := percentFor(h.live[0].Value.Uint64()); p*10 < h.percent*9 || p*10 > h.percent*11 || p == 100 && h.percent != p {
		debug.SetGCPercent(p)
		h.percent = p
	}
	runtime.SetFinalizer(&cycle{h}, h.collected)
}

// percentFor is the GC percent that gives a live heap, in bytes, its headroom.
func percentFor(live uint64) int {
	const smallest = 4 << 20 // below, the runtime does not collect
	return int(max(100, 100*headroom/max(live, smallest)))
}
