package nameupdate

import (
	"crypto/sha256"
	"encoding/base64"

	"github.com/dicomnam/dicomnam/coredhcp-plugins/pkg/lease"
	"github.com/miekg/dns"
)

// Identifier types and the digest type of a DHCID record (RFC 4701 sections 3.3
// and 3.4).
const (
	dhcidHardware = 0 // htype and chaddr
	dhcidClientID = 1 // client identifier option, type octet included
	dhcidDUID     = 2 // DUID, from DHCPv6 or from an RFC 4361 client identifier
	dhcidSHA256   = 1
)

// duidClientID is the type of a client identifier that holds an IAID of four
// octets and a DUID (RFC 4361 section 6.1).
const duidClientID = 255

// DHCID returns the RDATA of the DHCID record that binds the name to the client
// (RFC 4701), in base64 as dns.DHCID.Digest wants it. A client that sent an
// RFC 4361 client identifier is known by the DUID in it, so that its name is the
// same over all its interfaces and in DHCPv6; any other client identifier counts
// as it is; without one the hardware address counts. The result is empty if fqdn
// is not a domain name.
func DHCID(c lease.Client, fqdn string) string {
	name, ok := wireName(fqdn)
	if !ok {
		return ""
	}
	var kind byte
	var identifier []byte
	switch id := []byte(c.Identifier); {
	case len(id) > 5 && id[0] == duidClientID:
		kind, identifier = dhcidDUID, id[5:]
	case len(id) > 0:
		kind, identifier = dhcidClientID, id
	default:
		kind, identifier = dhcidHardware, append([]byte{c.HardwareType}, c.HardwareAddr...)
	}
	h := sha256.New()
	h.Write(identifier)
	h.Write(name)
	return base64.StdEncoding.EncodeToString(h.Sum([]byte{0, kind, dhcidSHA256}))
}

// wireName is the canonical wire form of a domain name (RFC 4034 section 6.2).
func wireName(fqdn string) ([]byte, bool) {
	buf := make([]byte, 255)
	n, err := dns.PackDomainName(dns.Fqdn(fqdn), buf, 0, nil, false)
	if err != nil {
		return nil, false
	}
	for i, b := range buf[:n] {
		// The length octets are below 64 and so never taken for a letter.
		if 'A' <= b && b <= 'Z' {
			buf[i] = b + 'a' - 'A'
		}
	}
	return buf[:n], true
}
