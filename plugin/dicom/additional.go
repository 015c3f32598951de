package dicom

import (
	"github.com/coredns/coredns/request"

	"github.com/miekg/dns"
)

// optOctets is the length of the OPT record that the server adds.
const optOctets = 11

// leaveOut removes from the additional section of an answer what does not fit
// into the client's buffer, whole RRsets, so that the server does not mark the
// answer as truncated (RFC 2181 section 9). Otherwise whoever browses for more
// than a few services would have to come again by TCP for records that nobody
// asked for. A referral needs its addresses and is left alone.
func leaveOut(w dns.ResponseWriter, r, m *dns.Msg) {
	if len(m.Extra) == 0 || len(m.Answer) == 0 {
		return
	}
	state := request.Request{W: w, Req: r}
	size := state.Size()
	if r.IsEdns0() != nil {
		size -= optOctets
	}
	fits := *m // only its slices are shortened
	fits.Truncate(size)
	n := len(fits.Extra)
	if n == len(m.Extra) || len(fits.Answer) < len(m.Answer) || len(fits.Ns) < len(m.Ns) {
		return
	}
	for n > 0 && sameRRset(m.Extra[n-1], m.Extra[n]) {
		n--
	}
	m.Extra = m.Extra[:n:n]
}

func sameRRset(a, b dns.RR) bool {
	return a.Header().Rrtype == b.Header().Rrtype && a.Header().Name == b.Header().Name
}
