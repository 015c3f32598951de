package zone

import (
	"encoding/base64"
	"encoding/hex"
	"net"
	"slices"
	"strings"

	"github.com/miekg/dns"
)

// malformed reports whether a record has data that its type does not allow, though the DNS library reads it. There are
// secondaries that check it: one such record, and they refuse the whole zone. Of types that nobody knows, nothing is known
// here either (RFC 3597). It is asked for what an UPDATE adds: what a zone has already can be removed.
func malformed(rr dns.RR) bool {
	switch r := rr.(type) {
	case *dns.AMTRELAY: // RFC 8777 section 4.2
		const discovery = 0x80 // a flag
		return lacksGateway(r.GatewayType&^discovery, r.GatewayAddr, r.GatewayHost)
	case *dns.CAA: // RFC 8659 section 4.1
		return r.Tag == "" || strings.ContainsFunc(r.Tag, func(c rune) bool { return !isLetterOrDigit(c) })
	case *dns.CERT: // RFC 4398 section 2
		return r.Certificate == ""
	case *dns.EID: // which no RFC describes
		return r.Endpoint == ""
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
	case *dns.NAPTR: // RFC 3403 section 4.1
		return strings.ContainsFunc(r.Flags, func(c rune) bool { return !isLetterOrDigit(c) }) || malformedSubstitution(octets(r.Regexp))
	case *dns.NIMLOC: // as EID
		return r.Locator == ""
	case *dns.RFC3597:
		data, err := hex.DecodeString(r.Rdata)
		return err != nil || malformedOpaque(r.Hdr.Rrtype, data)
	case *dns.RKEY:
		// It is as dead as its draft, and is kept as what it says. BIND knows that the flags are 0, and DNSKEY's private
		// algorithms.
		key, err := base64.StdEncoding.DecodeString(r.PublicKey)
		return err != nil || r.Flags != 0 || len(key) == 0 || r.Algorithm == dns.PRIVATEDNS && nameLength(key) == 0
	case *dns.SMIMEA: // RFC 8162 section 2
		return r.Certificate == ""
	case *dns.SSHFP: // RFC 4255 section 3.1.3, RFC 6594 section 2.1
		digest := len(r.FingerPrint) / 2
		return r.Type == 1 && digest != 20 || r.Type == 2 && digest != 32 || digest < 2
	case *dns.SVCB:
		return malformedBinding(r)
	case *dns.TLSA: // RFC 6698 section 2.1
		return r.Certificate == ""
	case *dns.X25: // RFC 1183 section 3.1
		return len(r.PSDNAddress) < 4 || strings.ContainsFunc(r.PSDNAddress, func(c rune) bool { return c < '0' || c > '9' })
	}
	return false
}

// malformedOpaque is malformed for types that the library knows only by number, and BIND by more.
func malformedOpaque(typ uint16, data []byte) bool {
	switch typ {
	case typeWKS: // RFC 1035 section 3.4.2; a bit for each port, and none for nothing
		const address, protocol, ports = 4, 1, 1 << 16
		last := len(data) - 1
		return last < address || last >= address+protocol && data[last] == 0 || len(data) > address+protocol+ports/8
	case typeNSAP, typeHHIT, typeBRID: // RFC 1706 section 5, RFC 9886 section 5
		return len(data) == 0
	case dns.TypeATMA: // ATM Forum af-dans-0152 section 5: format, and an address of octets (0) or digits (1)
		return len(data) < 2 || data[0] == 1 && slices.ContainsFunc(data[1:], func(c byte) bool { return !isDigit(c) })
	case typeA6: // RFC 2874 section 3.1
		const bits = 128
		if len(data) == 0 || data[0] > bits {
			return true
		}
		prefix := int(data[0])
		suffix := 1 + (bits-prefix+7)/8
		if len(data) < suffix || prefix%8 > 0 && data[1]>>(8-prefix%8) != 0 {
			return true
		}
		name := data[suffix:]
		return len(name) != nameLength(name) || (len(name) > 0) != (prefix > 0)
	case typeSINK: // draft-eastlake-kitchen-sink: meaning, coding, subcoding
		return len(data) < 3
	case typeDSYNC: // RFC 9859 section 2.1: type, scheme, port, target
		const target = 2 + 1 + 2
		return len(data) <= target || nameLength(data[target:]) != len(data)-target
	case typeDOA: // draft-durand-doa-over-dns: enterprise, type, location, media type, data
		const mediaType = 4 + 4 + 1
		return len(data) <= mediaType || len(data) <= mediaType+int(data[mediaType])
	case typeWALLET: // as TXT
		for len(data) > 0 && len(data) > int(data[0]) {
			if data = data[1+int(data[0]):]; len(data) == 0 {
				return false
			}
		}
		return true
	}
	return false
}

// nameLength is the number of octets of the domain name in wire form that data begins with; 0 if it is none, or compressed,
// which it may not be here (RFC 3597 section 4).
func nameLength(data []byte) int {
	for i := 0; i < len(data) && i < maxName && data[i] <= maxLabel; i += 1 + int(data[i]) {
		if data[i] == 0 {
			return i + 1
		}
	}
	return 0
}

// octets is what a character-string in presentation form stands for.
func octets(text string) []byte {
	var out []byte
	for len(text) > 0 {
		c, width := text[0], 1
		if c == '\\' {
			if c, width = unescape(text); width == 0 {
				break
			}
		}
		out, text = append(out, c), text[width:]
	}
	return out
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
