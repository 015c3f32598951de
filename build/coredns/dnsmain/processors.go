package dnsmain

import (
	"os"
	"runtime"
)

// useProcessors has Go run twice as many goroutines at once as there are processors,
// up to four, unless the environment sets GOMAXPROCS. A thread that waits for the disk
// to sync stands for one of them until the runtime notices, and of two that is half of
// the server.
func useProcessors() {
	const enough = 4
	if n := runtime.GOMAXPROCS(0); n < enough && os.Getenv("GOMAXPROCS") == "" {
		runtime.GOMAXPROCS(min(2*n, enough))
	}
}
