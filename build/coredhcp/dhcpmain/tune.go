package dhcpmain

import (
	"os"
	"runtime"
	"runtime/debug"
)

// collectFrom is the size of the heap, in octets, below which no garbage is
// collected: the default of 4 MiB, for a program that makes some kilobytes of
// garbage for each exchange, means ten collections a second under load.
const collectFrom = 48 << 20

// collectAt is how much garbage, in percent of what is in use, is let lie about.
// Collecting takes a tenth of a second for 300,000 leases; with Go's 100 it was a
// sixth of the processor time of a server that holds many of them.
const collectAt = 150

// ballast is memory that is never touched, and so never there: the collector
// counts it as in use, and lets as much garbage lie about in addition.
var ballast []byte //nolint:unused // keeps the heap's floor: being reachable is its use

// tune fits Go's runtime to a server that waits most of the time. What the
// environment sets by GOMAXPROCS, GOGC or GOMEMLIMIT stands.
//
// One exchange is a few short pieces of work, one after another, between two
// waits for the network and one for the disk. More than one processor only has
// Go wake a thread for each piece, to look for work that is already done: with
// two of them an exchange of a new client takes a third more processor time
// (85-124 us, with one 68-80 us), and the only thing that one processor bounds
// is a rate far above that of any network.
func tune() {
	if os.Getenv("GOMAXPROCS") == "" {
		runtime.GOMAXPROCS(1)
	}
	if os.Getenv("GOGC") == "" && os.Getenv("GOMEMLIMIT") == "" {
		debug.SetGCPercent(collectAt)
		ballast = make([]byte, collectFrom*100/(100+collectAt))
	}
}
