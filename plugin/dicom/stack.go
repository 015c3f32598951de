package dicom

import (
	"github.com/coredns/coredns/core/dnsserver"

	"github.com/miekg/dns"
)

// A query that comes by UDP has a goroutine of its own, whose stack is smaller
// than what the way through the plugins down to the socket takes. So it grew for
// each query, half-way down, where a dozen frames had to be moved: a quarter of
// the time of a query. Where the goroutine begins there is next to nothing to
// move.

// stackRoom is the frame that makes the runtime enlarge a stack of 2 to 8 KiB to
// 16 KiB. Half of that is enough for a query; the signature of an answer to an
// update takes 4 KiB more.
const stackRoom = 7168

// roomy arranges that the goroutines of a server have room on their stacks from
// the beginning. The DNS library asks for a writer first of all; decorated, where
// another plugin decorates it, is done then too.
func roomy(decorated func(*dnsserver.Server) dns.DecorateWriter) func(*dnsserver.Server) dns.DecorateWriter {
	return func(s *dnsserver.Server) dns.DecorateWriter {
		var decorate dns.DecorateWriter
		if decorated != nil {
			decorate = decorated(s)
		}
		return func(w dns.Writer) dns.Writer {
			enlargeStack(false)
			if decorate != nil {
				return decorate(w)
			}
			return w
		}
	}
}

// enlargeStack has a large frame, for which there has to be room whether it is
// used or not.
//
//go:noinline
func enlargeStack(use bool) byte {
	if !use {
		return 0
	}
	var room [stackRoom]byte
	fill(&room)
	return room[0]
}

//go:noinline
func fill(room *[stackRoom]byte) {
	for i := range room {
		room[i] = byte(i)
	}
}
