// Package integration holds the tests that start real processes: the built
// servers, DHCP clients as devices have them, and dig. Each test has a lab of
// its own (package lab) with the radiology network in it (package radiology), so
// that the tests run at once and leave nothing behind.
//
// A rule of one package is tested in that package; here stands what only the
// whole shows: what a client gets, what others then find in DNS, and what of it
// outlives SIGKILL.
package integration
