package zone

import (
	"net"
	"slices"
	"strings"

	"github.com/miekg/dns"
)

// malformed reports whether a record has data that its type does not allow, though the DNS library reads it. There are
// secondaries that check it: one such record, and they refuse the whole zone. Of types that the library does not know,
// nothing is known here either (RFC 3597). It is asked for what an UPDATE adds: what a zone has already can be removed.
func malformed(rr dns.RR) bool {
	switch r := rr.(type) {
	case *dns.AMTRELAY: // RFC 8777 section 4.2
		const discovery = 0x80 // a flag
		return lacksGateway(r.GatewayType&^discovery, r.GatewayAddr, r.GatewayHost)
	case *dns.CAA: // RFC 8659 section 4.1
		return r.Tag == "" || strings.ContainsFunc(r.Tag, func(c rune) bool { return !isLetterOrDigit(c) })
	case *dns.CERT: // RFC 4398 section 2
		return r.Certificate == ""
	case *dns.HIP: // RFC 8005 section 5
		return r.Hit == "" || r.PublicKey == ""
	case *dns.HTTPS:
		return malformedBinding(&r.SVCB)
	case *dns.IPSECKEY: // RFC 4025 section 2
		return r.GatewayType > dns.IPSECGatewayHost || lacksGateway(r.GatewayType, r.GatewayAddr, r.GatewayHost) ||
			(r.Algorithm == 0) != (r.PublicKey == "")
	case *dns.LOC: // RFC 1876 section 2
		return r.Version != 0 || !isLength(r.Size) || !isLength(r.HorizPre) || !isLength(r.VertPre) ||
			!isAngle(r.Latitude, 90) || !isAngle(r.Longitude, 180)
	case *dns.RFC3597:
		const address, protocol = 4, 1
		return r.Hdr.Rrtype == typeWKS && len(r.Rdata) < 2*(address+protocol) // RFC 1035 section 3.4.2
	case *dns.SMIMEA: // RFC 8162 section 2
		return r.Certificate == ""
	case *dns.SSHFP: // RFC 4255 section 3.1.3, RFC 6594 section 2.1
		digest := len(r.FingerPrint) / 2
		return r.Type == 1 && digest != 20 || r.Type == 2 && digest != 32 || digest < 2
	case *dns.SVCB:
		return malformedBinding(r)
	case *dns.TLSA: // RFC 6698 section 2.1
		return r.Certificate == ""
	}
	return false
}

// lacksGateway reports whether the data ended before the gateway, or relay, that its type tells.
func lacksGateway(typ uint8, address net.IP, host string) bool {
	return typ >= dns.IPSECGatewayIPv4 && typ <= dns.IPSECGatewayHost && len(address) == 0 && host == ""
}

// malformedBinding reports whether the parameters of a service binding contradict one another (RFC 9460 sections 7.1.1
// and 8), or have no path that a DNS query fits into (RFC 9461 section 5).
func malformedBinding(r *dns.SVCB) bool {
	has := func(k dns.SVCBKey) bool {
		return slices.ContainsFunc(r.Value, func(v dns.SVCBKeyValue) bool { return v.Key() == k })
	}
	for _, v := range r.Value {
		switch v := v.(type) {
		case *dns.SVCBMandatory:
			if len(v.Code) == 0 || slices.ContainsFunc(v.Code, func(k dns.SVCBKey) bool { return k == dns.SVCB_MANDATORY || !has(k) }) {
				return true
			}
		case *dns.SVCBNoDefaultAlpn:
			if !has(dns.SVCB_ALPN) {
				return true
			}
		case *dns.SVCBDoHPath:
			if !strings.HasPrefix(v.Template, "/") || !strings.Contains(v.Template, "dns") {
				return true
			}
		}
	}
	return false
}

func isLetterOrDigit(c rune) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
}

// isLength reports whether c is a mantissa and an exponent of ten, of a decimal digit each (RFC 1876 section 2). Nothing has
// no exponent.
func isLength(c uint8) bool {
	mantissa, exponent := c>>4, c&0xf
	return mantissa <= 9 && exponent <= 9 && (mantissa > 0 || exponent == 0)
}

// isAngle reports whether v, in thousandths of a second of arc from 2^31 on, is at most so many degrees (RFC 1876 section 2).
func isAngle(v uint32, degrees int64) bool {
	d := int64(v) - 1<<31
	return max(d, -d) <= degrees*60*60*1000
}
