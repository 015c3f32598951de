//go:build race

package lease

// fewer is how many times less the longest tests do under the race detector, which makes them ten times as slow: it
// looks at every memory access, and not at the disk.
const fewer = 4
