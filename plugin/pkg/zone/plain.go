package zone

import (
	"encoding/base64"
	"encoding/binary"
	"strings"

	"github.com/miekg/dns"
)

// Most records that change are of a few types, with names of letters, digits, hyphens and underscores. Their wire form is
// made here, without the DNS library's detour over a whole message; for all others, and for whatever is unusual about
// these, the functions say false, and the library does it. Both give the same octets.

// escaped are the printable octets of a label that presentation form writes with a backslash.
const escaped = `. '@;()"\`

// plainOctet has the octets that stand for themselves in presentation form.
var plainOctet = func() (table [256]bool) {
	for c := '!'; c <= '~'; c++ {
		table[c] = !strings.ContainsRune(escaped, c)
	}
	return table
}()

// appendPlainName appends the wire form of a name that ends with a dot, has no escapes, and is not the root.
func appendPlainName(dst []byte, name string) ([]byte, bool) {
	if len(name) < 2 || len(name) >= maxName || name[len(name)-1] != '.' {
		return dst, false
	}
	at := len(dst)
	dst = append(append(dst, '.'), name...)
	for i := at; i < len(dst)-1; {
		end := i + 1
		for plainOctet[dst[end]] {
			end++
		}
		length := end - i - 1
		if dst[end] != '.' || length == 0 || length > maxLabel {
			return dst[:at], false
		}
		dst[i], i = byte(length), end
	}
	dst[len(dst)-1] = 0
	return dst, true
}

// plainName reports whether appendPlainName can do it.
func plainName(name string) bool {
	var buf [maxName + 1]byte
	_, ok := appendPlainName(buf[:0], name)
	return ok
}

// plainRecord appends the wire form of a record.
func (p *packer) plainRecord(dst []byte, rr dns.RR) ([]byte, bool) {
	h := rr.Header()
	dst, ok := appendPlainName(dst, h.Name)
	if !ok {
		return nil, false
	}
	dst = binary.BigEndian.AppendUint16(dst, h.Rrtype)
	dst = binary.BigEndian.AppendUint16(dst, h.Class)
	dst = binary.BigEndian.AppendUint32(dst, h.Ttl)
	dst = append(dst, 0, 0)
	at := len(dst)
	if dst, ok = p.plainData(dst, rr); !ok {
		return nil, false
	}
	binary.BigEndian.PutUint16(dst[at-2:], uint16(len(dst)-at))
	return dst, true
}

// plainData appends the data of a record.
func (p *packer) plainData(dst []byte, rr dns.RR) (_ []byte, ok bool) {
	switch r := rr.(type) {
	case *dns.A:
		return append(dst, r.A...), len(r.A) == 4
	case *dns.AAAA:
		return append(dst, r.AAAA...), len(r.AAAA) == 16
	case *dns.PTR:
		return appendPlainName(dst, r.Ptr)
	case *dns.SRV:
		dst = binary.BigEndian.AppendUint16(dst, r.Priority)
		dst = binary.BigEndian.AppendUint16(dst, r.Weight)
		dst = binary.BigEndian.AppendUint16(dst, r.Port)
		return appendPlainName(dst, r.Target)
	case *dns.SOA:
		if dst, ok = appendPlainName(dst, r.Ns); !ok {
			return dst, false
		}
		if dst, ok = appendPlainName(dst, r.Mbox); !ok {
			return dst, false
		}
		for _, n := range [...]uint32{r.Serial, r.Refresh, r.Retry, r.Expire, r.Minttl} {
			dst = binary.BigEndian.AppendUint32(dst, n)
		}
		return dst, true
	case *dns.DHCID:
		at := len(dst)
		p.text = append(p.text[:0], r.Digest...)
		dst, err := base64.StdEncoding.Strict().AppendDecode(dst, p.text)
		// The decoder skips line breaks: those are not the one form of the data.
		return dst, err == nil && len(dst) > at && base64.StdEncoding.EncodedLen(len(dst)-at) == len(r.Digest)
	}
	return dst, false
}

// plainNormal is normal for a record that it can see to be so already; else nil.
func (p *packer) plainNormal(rr dns.RR) dns.RR {
	h := *rr.Header()
	data, ok := p.plainData(p.plain[:0], rr)
	p.plain = data[:0]
	if !ok || !plainName(h.Name) {
		return nil
	}
	h.Class, h.Rdlength = dns.ClassINET, uint16(len(data))
	if h.Ttl > maxTTL {
		h.Ttl = 0
	}
	switch r := rr.(type) {
	case *dns.A:
		if h.Rrtype == dns.TypeA {
			return &dns.A{Hdr: h, A: append([]byte(nil), r.A...)}
		}
	case *dns.AAAA:
		if h.Rrtype == dns.TypeAAAA {
			return &dns.AAAA{Hdr: h, AAAA: append([]byte(nil), r.AAAA...)}
		}
	case *dns.PTR:
		if h.Rrtype == dns.TypePTR {
			return &dns.PTR{Hdr: h, Ptr: r.Ptr}
		}
	case *dns.SRV:
		if h.Rrtype == dns.TypeSRV {
			return &dns.SRV{Hdr: h, Priority: r.Priority, Weight: r.Weight, Port: r.Port, Target: r.Target}
		}
	case *dns.DHCID:
		if h.Rrtype == dns.TypeDHCID {
			return &dns.DHCID{Hdr: h, Digest: r.Digest}
		}
	}
	return nil
}
