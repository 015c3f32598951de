package dicom

import (
	"iter"
	"slices"
	"time"

	"github.com/dicomnam/dicomnam/plugin/pkg/zone"

	"github.com/coredns/coredns/plugin/transfer"

	"github.com/miekg/dns"
)

// transferBatch is how many records go to the transfer plugin at a time.
const transferBatch = 256

// Transfer is what the transfer plugin calls. All records come from one
// snapshot, however long the transfer takes and whatever is updated meanwhile.
// A serial that is not older than the zone's gets the SOA alone (RFC 1995
// section 2); an older one gets the difference as one sequence (section 4), or
// the whole zone where the zone's journal does not tell the difference.
//
// A transfer that is too slow ends before the last SOA, and so is none for the
// secondary (RFC 5936 section 2.2). It waits for its turn where many are under way.
func (d *Dicom) Transfer(origin string, serial uint32) (<-chan []dns.RR, error) {
	s := d.zones[dns.CanonicalName(origin)]
	if s == nil {
		return nil, transfer.ErrNotAuthoritative
	}
	z, err := d.zone(s)
	if err != nil {
		return nil, err
	}
	metrics := s.metrics.Load()
	// Not older: RFC 1982 section 3.2.
	if snapshot := z.Snapshot(); serial != 0 && int32(snapshot.Serial()-serial) <= 0 {
		ch := make(chan []dns.RR, 1)
		ch <- []dns.RR{snapshot.SOA()}
		close(ch)
		metrics.soa.Inc()
		return ch, nil
	}
	l, err := d.transfers.enter()
	if err != nil {
		metrics.busy.Inc()
		return nil, err
	}
	ch := make(chan []dns.RR)
	go func() {
		defer close(ch)
		defer l.leave()
		send(&outgoing{ch: ch, lane: l}, s, z.Snapshot(), serial, metrics)
	}()
	return ch, nil
}

// send writes the transfer.
func send(o *outgoing, s *served, snapshot *zone.Snapshot, serial uint32, metrics *zoneMetrics) {
	started := time.Now()
	kind := metrics.axfr
	var d zone.Difference
	if serial != 0 {
		var ok bool
		if d, ok = snapshot.Since(serial); ok {
			kind = metrics.ixfr
		}
	}
	o.lane.deadline = started.Add(transferLeast + time.Duration(snapshot.Size())*time.Second/transferRate)
	if whole(o, snapshot, d, kind == metrics.ixfr) {
		kind.Inc()
		return
	}
	metrics.slow.Inc()
	o.lane.of.lines.Do(func() {
		log.Warningf("Transfer of zone %s, serial %d, is cut after %v: its client is too slow", s.origin, snapshot.Serial(), time.Since(started).Round(time.Second))
	})
}

// whole writes all that belongs to a transfer. It is false if the transfer was
// cut.
func whole(o *outgoing, snapshot *zone.Snapshot, d zone.Difference, incremental bool) bool {
	soa := snapshot.SOA()
	if incremental {
		return o.soa(soa) && o.soa(d.From) && o.all(slices.Values(d.Removed)) &&
			o.soa(soa) && o.all(slices.Values(d.Added)) && o.last(soa)
	}
	return o.soa(soa) && o.all(rest(snapshot.All())) && o.last(soa)
}

// rest are all but the first.
func rest(rrs iter.Seq[dns.RR]) iter.Seq[dns.RR] {
	return func(yield func(dns.RR) bool) {
		first := true
		for rr := range rrs {
			if !first && !yield(rr) {
				return
			}
			first = false
		}
	}
}

// messageOctets is the size from which on the transfer plugin begins another
// message.
const messageOctets = 63_000

// outgoing is the way of one transfer to the transfer plugin.
//
// That plugin takes a single record that is left at the end, after it has seen a
// SOA record, for the whole of an answer to a secondary that is up to date: it
// answers with that SOA in a message of its own, which is not authoritative. So
// the last SOA must not be left alone, where it did not fit into the message
// before it (RFC 5936 section 2.2.1: AA is set in all messages). And a transfer
// that is cut, of which by chance one record is left, must not end with a SOA: it
// would be whole for the secondary, without what was not sent. What the plugin
// does not see as a SOA record it only passes on.
type outgoing struct {
	ch   chan<- []dns.RR
	lane *lane
	fill int // octets in the message that the plugin fills
}

// plain is a SOA record that is not seen as one, but for its octets.
type plain struct{ *dns.SOA }

// soa writes a SOA record that is not the last.
func (o *outgoing) soa(soa *dns.SOA) bool { return o.batch([]dns.RR{plain{soa}}) }

// last writes the SOA record that ends the transfer, as one that the plugin sees
// and logs, unless it comes to stand alone.
func (o *outgoing) last(soa *dns.SOA) bool {
	if o.fill+dns.Len(soa) > messageOctets {
		return o.soa(soa)
	}
	return o.batch([]dns.RR{soa})
}

// all writes records in batches.
func (o *outgoing) all(rrs iter.Seq[dns.RR]) bool {
	batch := make([]dns.RR, 0, transferBatch)
	for rr := range rrs {
		if batch = append(batch, rr); len(batch) == transferBatch {
			if !o.batch(batch) {
				return false
			}
			batch = make([]dns.RR, 0, transferBatch)
		}
	}
	return len(batch) == 0 || o.batch(batch)
}

func (o *outgoing) batch(rrs []dns.RR) bool {
	if !o.lane.pass(o.ch, rrs) {
		return false
	}
	for _, rr := range rrs {
		n := dns.Len(rr)
		if o.fill > 0 && o.fill+n > messageOctets {
			o.fill = 0
		}
		o.fill += n
	}
	return true
}
