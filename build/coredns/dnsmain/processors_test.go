package dnsmain

import (
	"runtime"
	"testing"
)

func TestUseProcessors(t *testing.T) {
	before := runtime.GOMAXPROCS(0)
	defer runtime.GOMAXPROCS(before)
	for _, tt := range []struct {
		given, want int
		environment string
	}{
		{1, 2, ""}, {2, 4, ""}, {3, 4, ""}, {4, 4, ""}, {16, 16, ""},
		{1, 1, "1"}, {2, 2, "2"},
	} {
		t.Setenv("GOMAXPROCS", tt.environment)
		runtime.GOMAXPROCS(tt.given)
		useProcessors()
		if got := runtime.GOMAXPROCS(0); got != tt.want {
			t.Errorf("of %d, with GOMAXPROCS=%q: %d, want %d", tt.given, tt.environment, got, tt.want)
		}
	}
}
