// Package lease decides who holds which address until when. It is the allocation and durability heart of the DHCPv4
// server: it knows the rules of RFC 2131 section 4.3, and no wire format, no socket and no DNS.
//
// Why it is built this way:
//
//   - A promise is kept through a power cut. An Ack leaves only after its lease is synced to disk. Syncing is what
//     costs, so callers queue and one committer writes everything that waits as one synced batch: the disk is asked
//     once for many promises, and no lock is held while it works.
//   - Decisions are made one after another under one short mutex and show at once to the decisions that follow, so two
//     clients can never be promised one address, however their packets interleave. Should the sync fail, the decision
//     and every later one that could have built on it are undone, and their callers get the error instead of an Ack.
//     The state that others may act on (Lease, TakeNameChanges) is the committed one alone.
//   - Nothing grows with the size of a pool: an address that was never used costs nothing. A binding lives in maps, in a
//     heap ordered by its end while it is held, and in its pool's list of free addresses, oldest first, once it is not;
//     so neither expiry nor the choice of an address ever scans.
//   - A device is not a client. Firmware and operating system of one machine send different client identifiers; the
//     reservation belongs to the hardware that both come from (see Reservation). Nor does a client identifier make two
//     devices of the site one, when a copied disk or a vendor gives it to both.
//   - What DNS shall show is part of the lease: the name is committed with the lease it belongs to, and a name that must
//     go away leaves a removal record, written in the batch that ends the lease. Whoever talks to DNS takes changes and
//     confirms them; whatever is not confirmed is pending again after a restart, so names converge whatever crashes. DNS
//     has one address for a name: of several leases of one client or device it shows the newest, and when that ends the
//     next (see namesakes.go).
//   - Whether another machine uses an address is found out by the caller, without holding anybody up: the address is on
//     offer meanwhile, an answer of Kind Probe says what to try, and what was found stays with the offer (see probe.go).
//   - Nothing is lost silently. A database from which files are gone, or that is damaged, is refused; a running server
//     whose database fails opens it again, writes again what a sync did not cover, and never begins an empty one.
//
// Time: leases end by elapsed time. Every moment in memory is an offset in nanoseconds from Open, computed from what
// Options.Now returns (time.Now carries a monotonic reading, so stepping the wall clock neither ends nor stretches a
// lease). Wall-clock time is only what is written to disk and what a Lease shows.
package lease
