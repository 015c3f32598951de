package main

import (
	"runtime"
	"testing"
)

func TestMoreThreads(t *testing.T) {
	was := runtime.GOMAXPROCS(0)
	t.Cleanup(func() { runtime.GOMAXPROCS(was) })
	machine := runtime.NumCPU()
	for _, tt := range []struct {
		name          string
		variable      string
		threads, want int
	}{
		{"the machine's", "", machine, max(leastThreads, machine)},
		{"not the machine's", "", machine + 1, machine + 1}, // as any number but the machine's
		{"set by the administrator", "1", machine, machine},
	} {
		t.Run(tt.name, func(t *testing.T) {
			runtime.GOMAXPROCS(tt.threads)
			t.Setenv("GOMAXPROCS", tt.variable)
			moreThreads()
			if got := runtime.GOMAXPROCS(0); got != tt.want {
				t.Errorf("%d, want %d", got, tt.want)
			}
		})
	}
}
