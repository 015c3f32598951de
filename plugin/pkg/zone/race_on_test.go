//go:build race

package zone

// fewer is how many times less the tests of failures do under the race detector, which makes them ten times as slow: it
// looks at every memory access, and not at the disk.
const fewer = 4
