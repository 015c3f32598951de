package dicom

import (
	"iter"
	"slices"

	"github.com/dicomnam/dicomnam/plugin/pkg/zone"

	"github.com/coredns/coredns/plugin/transfer"

	"github.com/miekg/dns"
)

// transferBatch is how many records go to the transfer plugin at a time.
const transferBatch = 256

// Transfer implements [transfer.Transferer]. All records come from one
// snapshot, however long the transfer takes and whatever is updated meanwhile.
// A serial that is not older than the zone's gets the SOA alone (RFC 1995
// section 2); an older one gets the difference as one sequence (section 4), or
// the whole zone where the zone's journal does not tell the difference.
func (d *Dicom) Transfer(origin string, serial uint32) (<-chan []dns.RR, error) {
	s := d.zones[dns.CanonicalName(origin)]
	if s == nil {
		return nil, transfer.ErrNotAuthoritative
	}
	z, err := d.zone(s)
	if err != nil {
		return nil, err
	}
	ch := make(chan []dns.RR)
	go func() {
		defer close(ch)
		transfers.WithLabelValues(s.origin, send(ch, z.Snapshot(), serial)).Inc()
	}()
	return ch, nil
}

// send writes the transfer to ch and returns its kind. The transfer plugin reads
// ch to its end, also when its client has gone, so this does end.
func send(ch chan<- []dns.RR, snapshot *zone.Snapshot, serial uint32) (sent string) {
	soa := []dns.RR{snapshot.SOA()}
	// Not older: RFC 1982 section 3.2.
	if serial != 0 && int32(snapshot.Serial()-serial) <= 0 {
		ch <- soa
		return "soa"
	}
	if serial != 0 {
		if d, ok := snapshot.Since(serial); ok {
			ch <- soa
			ch <- []dns.RR{d.From}
			sendAll(ch, slices.Values(d.Removed))
			ch <- soa
			sendAll(ch, slices.Values(d.Added))
			ch <- soa
			return "ixfr"
		}
	}
	sendAll(ch, snapshot.All())
	ch <- soa
	return "axfr"
}

// sendAll writes the records to ch in batches.
func sendAll(ch chan<- []dns.RR, rrs iter.Seq[dns.RR]) {
	batch := make([]dns.RR, 0, transferBatch)
	for rr := range rrs {
		if batch = append(batch, rr); len(batch) == transferBatch {
			ch <- batch
			batch = make([]dns.RR, 0, transferBatch)
		}
	}
	if len(batch) > 0 {
		ch <- batch
	}
}
