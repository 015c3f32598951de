package zone

import "time"

// CommitInfo tells of one group of transactions that shared a commit.
type CommitInfo struct {
	Transactions int           // of all zones, at least 1; those that were refused or changed nothing included
	Took         time.Duration // from their begin to their answers, the disk included
}

// observed tells the one who asked for it about a commit.
func (s *Store) observed(begun time.Time, transactions int) {
	if s.committed != nil {
		_ = s.execute(func() error { s.committed(CommitInfo{transactions, time.Since(begun)}); return nil })
	}
}

// JournalInfo tells how far back the differences of a zone go.
type JournalInfo struct {
	Revisions int    // changes it holds
	Octets    int    // size of these
	Oldest    uint32 // serial from which on [Snapshot.Since] may know the difference; without revisions the zone's own
}

// Journal describes the journal of the zone.
func (s *Snapshot) Journal() JournalInfo {
	j := &s.state.journal
	info := JournalInfo{Revisions: len(j.revisions), Octets: j.octets, Oldest: s.Serial()}
	if len(j.revisions) > 0 {
		info.Oldest = j.revisions[0].from
	}
	return info
}
