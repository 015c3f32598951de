package lease

// heads finds a number by a hash: a hash table in one piece, of 8 octets a place. A look at it is one look at the memory, and
// with a million clients that is most of what it costs; a map of Go's needs more of them, and more room.
type heads struct {
	places []uint64 // a power of two of them: a hash and its number; 0: nothing
	used   int
}

// at is the place of a hash, or the one that it would take.
func (h *heads) at(hash uint32) int {
	i := h.home(hash)
	for h.places[i] != 0 && uint32(h.places[i]>>32) != hash {
		i = (i + 1) & (len(h.places) - 1)
	}
	return i
}

// home is where a hash is looked for first.
func (h *heads) home(hash uint32) int { return int(hash) & (len(h.places) - 1) }

// get is the number of a hash, 0 if there is none.
func (h *heads) get(hash uint32) number {
	if h.used == 0 {
		return 0
	}
	return number(h.places[h.at(hash)])
}

// set gives a hash a number, which is not 0.
func (h *heads) set(hash uint32, n number) {
	h.reserve(h.used + 1)
	i := h.at(hash)
	if h.places[i] == 0 {
		h.used++
	}
	h.places[i] = uint64(hash)<<32 | uint64(n)
}

// reserve makes room for n hashes. Two thirds are in use at most: looks at more than one place then stay few. It never becomes
// smaller, as clients are hardly ever forgotten.
func (h *heads) reserve(n int) {
	size := max(64, len(h.places))
	for 3*n > 2*size {
		size *= 2
	}
	if size == len(h.places) {
		return
	}
	old := h.places
	h.places = make([]uint64, size)
	for _, p := range old {
		if p != 0 {
			h.places[h.at(uint32(p>>32))] = p
		}
	}
}

// remove takes a hash out, and moves those up that would not be found behind the gap.
func (h *heads) remove(hash uint32) {
	mask := len(h.places) - 1
	gap := h.at(hash)
	for i := gap; h.places[i] != 0; i = (i + 1) & mask {
		if from := h.home(uint32(h.places[i] >> 32)); (i-from)&mask >= (i-gap)&mask {
			h.places[gap], gap = h.places[i], i
		}
	}
	h.places[gap] = 0
	h.used--
}
