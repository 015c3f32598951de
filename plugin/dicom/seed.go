package dicom

import (
	"fmt"
	"os"

	"github.com/dicomnam/dicomnam/plugin/pkg/zone"

	"github.com/miekg/dns"
)

// checkSeed reports whether a zone can be made from a zone file.
func checkSeed(path, origin string, limits zone.Limits) error {
	records, err := readSeed(path, origin, limits)
	if err != nil {
		return err
	}
	if err := zone.CheckSeed(origin, records, limits); err != nil {
		return fmt.Errorf("zone file %q: %w", path, err)
	}
	return nil
}

// readSeed reads a zone file (RFC 1035 section 5). It stops at the limits, so
// that a wrong path cannot fill the memory.
func readSeed(path, origin string, limits zone.Limits) ([]dns.RR, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("opening zone file: %w", err)
	}
	defer func() { _ = f.Close() }() // it was only read

	mostRecords, mostBytes := limits.Records, limits.Bytes
	if mostRecords == 0 {
		mostRecords = zone.DefaultRecords
	}
	if mostBytes == 0 {
		mostBytes = zone.DefaultBytes
	}
	parser := dns.NewZoneParser(f, origin, path)
	parser.SetIncludeAllowed(true)
	var records []dns.RR
	bytes := 0
	for rr, ok := parser.Next(); ok; rr, ok = parser.Next() {
		records = append(records, rr)
		bytes += dns.Len(rr)
		if len(records) > mostRecords || bytes > mostBytes {
			return nil, fmt.Errorf("zone file %q: more than max_records %d or max_bytes %d allow", path, mostRecords, mostBytes)
		}
	}
	if err := parser.Err(); err != nil {
		return nil, fmt.Errorf("parsing zone file: %w", err)
	}
	return records, nil
}
