package main

import (
	"os"
	"runtime"
)

// leastThreads is how many threads run Go code at a time, at least.
const leastThreads = 4

// moreThreads lets the operating system share out few processors, and not Go.
//
// Go lets a goroutine run for 10 ms before another one has its turn. If there
// are two threads, and one commits while the other compacts the database, nobody
// takes queries from the socket meanwhile, whose buffer is full after 277 of
// them: less than 10 ms at 30,000 queries a second. A thread more, which waits
// for the socket alone, gets a processor from the operating system at once.
//
// It does nothing where the administrator has set GOMAXPROCS, or where the
// process may use less than the machine has (a limit of its control group):
// there, more threads would use the limit up faster, and then all of them stand.
func moreThreads() {
	if os.Getenv("GOMAXPROCS") == "" && runtime.GOMAXPROCS(0) == runtime.NumCPU() {
		runtime.GOMAXPROCS(max(leastThreads, runtime.NumCPU()))
	}
}
