// Package zone is an authoritative DNS zone that changes all the time: the rules of RFC 2136 on one side, answers on
// the other, and a disk below.
//
// # Reading
//
// A zone is one immutable [Snapshot] behind an atomic pointer. Its names stand in a copy-on-write tree in canonical
// order (RFC 4034 section 6.1), so that a change costs its own size and not the zone's, and so that the tree itself
// answers what DNS asks about order: is there something below this name (an empty non-terminal), which is the closest
// encloser (RFC 4592), what comes next (a transfer). Queries, transfers and prerequisites take no lock and never wait
// for a writer or a disk. What was published is never changed again; that is why the slices that a Snapshot hands out
// are shared, and must not be changed by whoever gets them.
//
// # Writing
//
// One goroutine per [Store] commits. What can be said about an UPDATE without knowing the zone (is it well formed, is it
// permitted, what are its records in normal form) is found out by the goroutine of its client. The committer takes all the transactions that wait, for whichever zones, and applies them one
// after another, each seeing what the ones before it did and changing nothing if it fails. Then it writes what differs
// as one synced batch, publishes the new snapshots, and only then answers. While the disk syncs, the next transactions
// gather: the more clients, the more of them share a sync. A success is never told for what a power cut could lose.
// When the disk fails, the whole group is told SERVFAIL and the published state stays; the database is then opened anew
// from what the disk really holds, and brought back to what is published, before anything else is written.
//
// # Whose record
//
// An RRset knows how many of its records belong to the administrator's site file. UPDATE cannot change those, nor hide
// them behind a delegation or a DNAME record. The [Derive] hook, which comes and goes with them, lets such records follow
// the life of others inside the very transaction that changes those: a service appears and vanishes with the address of
// its host, in the same serial (fate sharing, RFC 5505 section 3.2.1).
//
// # Journal
//
// Each change of content leaves a revision in the zone's journal, from which [Snapshot.Since] makes the difference
// between a former version and the present one, for incremental transfers. The journal is part of the published state
// and of the batch that makes the change durable, and it is bounded: by count, by octets and by the size of the zone. See journal.go.
//
// # On disk
//
// One Pebble database holds any number of zones, one key for each record, so that adding to an RRset of thousands does
// not rewrite it. All state that cannot be understood completely is an error that names it, never a reason to start from
// something else. See disk.go for the layout and guard.go for how a failing disk is kept from ending the process.
package zone
