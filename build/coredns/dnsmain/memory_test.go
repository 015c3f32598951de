package dnsmain

import (
	"runtime"
	"runtime/debug"
	"testing"
	"time"
)

func TestPercentFor(t *testing.T) {
	for _, tt := range []struct {
		live uint64 // MiB
		want int
	}{{0, 3200}, {1, 3200}, {4, 3200}, {16, 800}, {64, 200}, {128, 100}, {500, 100}, {1 << 20, 100}} {
		if got := percentFor(tt.live << 20); got != tt.want {
			t.Errorf("%d MiB: %d, want %d", tt.live, got, tt.want)
		}
	}
}

// The percentage follows the heap up and down, unless the administrator has set it.
func TestGiveHeadroom(t *testing.T) {
	current := func() int {
		p := debug.SetGCPercent(100)
		debug.SetGCPercent(p)
		return p
	}
	t.Setenv("GOMEMLIMIT", "1GiB")
	giveHeadroom()
	if got := current(); got != 100 {
		t.Fatalf("with GOMEMLIMIT: %d", got)
	}
	t.Setenv("GOMEMLIMIT", "")
	t.Setenv("GOGC", "100")
	giveHeadroom()
	if got := current(); got != 100 {
		t.Fatalf("with GOGC: %d", got)
	}
	t.Setenv("GOGC", "")
	giveHeadroom()
	await := func(what string, good func(percent int) bool) {
		t.Helper()
		for range 100 {
			runtime.GC()
			if good(current()) {
				return
			}
			time.Sleep(20 * time.Millisecond)
		}
		t.Errorf("%s: %d", what, current())
	}
	await("small heap", func(p int) bool { return p >= 1000 })
	data := make([]byte, 200<<20)
	await("large heap", func(p int) bool { return p == 100 })
	runtime.KeepAlive(data)
	await("small heap again", func(p int) bool { return p >= 1000 })
}
