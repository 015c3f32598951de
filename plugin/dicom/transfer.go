package dicom

import (
	"github.com/dicomnam/dicomnam/plugin/pkg/zone"

	"github.com/coredns/coredns/plugin/transfer"

	"github.com/miekg/dns"
)

// transferBatch is how many records go to the transfer plugin at a time.
const transferBatch = 256

// Transfer implements [transfer.Transferer]. All records come from one
// snapshot, however long the transfer takes and whatever is updated meanwhile.
// A serial that is not older than the zone's gets the SOA alone (RFC 1995
// section 2); an older one gets the whole zone, which RFC 1995 section 4 permits.
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
	go send(ch, z.Snapshot(), serial)
	return ch, nil
}

// send writes the transfer to ch and closes it. The transfer plugin reads ch to
// its end, also when its client has gone, so this does end.
func send(ch chan<- []dns.RR, snapshot *zone.Snapshot, serial uint32) {
	defer close(ch)
	soa := []dns.RR{snapshot.SOA()}
	// Not older: RFC 1982 section 3.2.
	if serial != 0 && int32(snapshot.Serial()-serial) <= 0 {
		ch <- soa
		return
	}
	batch := make([]dns.RR, 0, transferBatch)
	for rr := range snapshot.All() {
		if batch = append(batch, rr); len(batch) == transferBatch {
			ch <- batch
			batch = make([]dns.RR, 0, transferBatch)
		}
	}
	if len(batch) > 0 {
		ch <- batch
	}
	ch <- soa
}
