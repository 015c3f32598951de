package nameupdate

import "time"

const (
	// mostAway is how many changes may be worked on at once for each that Config.InFlight allows, where answers take
	// long on their way.
	mostAway = 8
	// farAway is the least time for which an answer counts as long on its way.
	farAway = 20 * time.Millisecond
	// leastPace is how few changes are worked on at once where messages are lost.
	leastPace = 4
)

// pace is how many changes are worked on at once. Where each answer takes its
// time on the way, more at once get through in the same time; where the server is
// what takes the time, more would only wait there, until they are given up and
// sent again for nothing. The two are told apart by the fastest answer that the
// server ever gave: a way is always long. Where messages are lost, less is sent at
// once, as RFC 8085 section 3.1 wants it. Run alone uses it.
type pace struct {
	base, size int
	timeout    time.Duration               // after which a message is sent again
	fastest    map[*upstream]time.Duration // answer
	cut        time.Time                   // when size was last halved
	good       int                         // changes done since size grew, where it is below base
}

func newPace(c Config) *pace {
	return &pace{base: c.InFlight, size: c.InFlight, timeout: c.Timeout, fastest: make(map[*upstream]time.Duration)}
}

// span is the least and the most time that an answer took.
type span struct{ least, most time.Duration }

func (s *span) add(took time.Duration) {
	if s == nil {
		return
	}
	if s.most == 0 || took < s.least {
		s.least = took
	}
	s.most = max(s.most, took)
}

// merge adds the answers of another.
func (s *span) merge(o span) {
	if s != nil && o.most > 0 {
		s.add(o.least)
		s.add(o.most)
	}
}

// answered learns from the answers to a change that was begun at a moment. Full
// says that there was no room for another change.
func (p *pace) answered(by *upstream, answers span, started, now time.Time, full bool) {
	fastest, known := p.fastest[by]
	if !known || answers.least < fastest {
		fastest = answers.least
		p.fastest[by] = fastest
	}
	took := answers.most
	switch {
	case took >= p.timeout: // it was sent more than once
		if started.After(p.cut) {
			p.size, p.cut, p.good = max(p.size/2, min(leastPace, p.base)), now, 0
		}
	case p.size < p.base:
		if p.good++; p.good >= p.size {
			p.size, p.good = p.size+1, 0
		}
	case full && took >= farAway && took < 2*fastest:
		p.size = min(p.size+1, mostAway*p.base)
	case p.size > p.base && took > 4*fastest:
		p.size--
	}
}
