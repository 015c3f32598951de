package server

import (
	"encoding/binary"
	"net"
	"testing"
)

// TestOutboxClients has an outbox tell whose answers it has, of more clients than
// there are hashes, and forget them when it is cleared.
func TestOutboxClients(t *testing.T) {
	t.Parallel()
	client := func(n int) net.HardwareAddr {
		return binary.BigEndian.AppendUint32(net.HardwareAddr{0, 0}, uint32(n))
	}
	o := new(outbox)
	const clients = 4 * clientHashes
	for range 2 {
		for n := range clients {
			if o.isFor(client(n)) {
				t.Fatalf("client %d is there before its answer", n)
			}
			o.note(client(n))
			o.note(client(n / 2)) // another one for a client that is there
		}
		for n := range 2 * clients {
			if got, want := o.isFor(client(n)), n < clients; got != want {
				t.Fatalf("client %d: %t, expected %t", n, got, want)
			}
		}
		o.clear()
		for n := range clients {
			if o.isFor(client(n)) {
				t.Fatalf("client %d is there after clear", n)
			}
		}
	}
}
