//go:build linux

package lab

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"runtime"

	"github.com/vishvananda/netns"
)

// A Namespace is one operating system thread that lives in a network namespace
// of its own, or, as a relay lab needs it, in the caller's. The namespace has no
// name and no mount point: it ends with the last thread and socket in it, so
// that not even SIGKILL leaves it behind.
//
// The thread stays for as long as the Namespace, because the kernel sends a
// process its parent-death signal when the thread that started it ends.
type Namespace struct {
	name   string
	calls  chan func()
	quit   chan struct{} // closed to end the thread
	ended  chan struct{} // closed when it has ended
	handle netns.NsHandle
}

// newNamespace starts the thread. With isolated it enters a new network
// namespace first; otherwise it stays where the caller is.
func newNamespace(name string, isolated bool) (*Namespace, error) {
	n := &Namespace{
		name:   name,
		calls:  make(chan func()),
		quit:   make(chan struct{}),
		ended:  make(chan struct{}),
		handle: netns.None(),
	}
	ready := make(chan error)
	go func() {
		defer close(n.ended)
		// Never unlocked: a thread whose namespace was changed must not serve
		// other goroutines, and the runtime ends it with this goroutine.
		runtime.LockOSThread()
		if isolated {
			h, err := netns.New()
			if err != nil {
				ready <- fmt.Errorf("making the network namespace %q: %w", name, err)
				return
			}
			n.handle = h
		}
		ready <- nil
		for {
			select {
			case call := <-n.calls:
				call()
			case <-n.quit:
				return
			}
		}
	}()
	if err := <-ready; err != nil {
		return nil, err
	}
	return n, nil
}

// Do runs f on the namespace's thread: sockets that f opens and processes that
// it starts belong to the namespace, also after f returned. A goroutine that f
// starts does not run there. A panic of f comes up in the caller.
func (n *Namespace) Do(f func() error) error {
	var (
		err      error
		panicked any
		done     = make(chan struct{})
	)
	call := func() {
		defer close(done)
		defer func() { panicked = recover() }()
		err = f()
	}
	select {
	case n.calls <- call:
	case <-n.ended:
		return fmt.Errorf("the network namespace %q is closed", n.name)
	}
	<-done
	if panicked != nil {
		panic(panicked)
	}
	return err
}

// Dial connects a UDP or TCP socket of the namespace to an address.
func (n *Namespace) Dial(network string, to netip.AddrPort) (net.Conn, error) {
	var conn net.Conn
	err := n.Do(func() (err error) {
		conn, err = net.Dial(network, to.String())
		return err
	})
	return conn, err
}

// close ends the thread. Processes that were started on it get SIGKILL from the
// kernel, and the namespace goes with its last socket.
func (n *Namespace) close() error {
	close(n.quit)
	<-n.ended
	if !n.handle.IsOpen() {
		return nil
	}
	return n.handle.Close()
}

// errNotLinked says that a lab without namespaces has no link to plug into.
var errNotLinked = errors.New("a relay lab has no network link")
