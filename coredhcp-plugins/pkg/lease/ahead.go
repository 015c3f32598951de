package lease

import (
	"context"
	"runtime"
	"sync"
)

// Commit stands for the transactions that are written to disk together with what a call has decided; it is the same
// pointer for all of them. What was decided must not be told to anybody before.
type Commit group

// Then has f called once: when the transactions are on stable storage, with nil, or with the reason why they will never
// be. Soon after that it is called at once, else by the goroutine that writes the transactions, which waits for it: f
// must not block.
func (c *Commit) Then(f func(error)) {
	g := (*group)(c)
	g.after.mu.Lock()
	over := g.after.over
	if !over {
		g.after.calls = append(g.after.calls, f)
	}
	g.after.mu.Unlock()
	if over {
		f(g.err)
	}
}

// after is what is to be done when a group's fate is known.
type after struct {
	mu    sync.Mutex // guards the rest; it may be taken while Manager.mu is held, not the other way round
	over  bool
	calls []func(error)
}

// settle waits for the group, or hands it to a caller that does not want to wait.
func (q *Query) settle(ctx context.Context, g *group) error {
	if q.Ahead != nil {
		q.Ahead((*Commit)(g))
		return nil
	}
	return g.wait(ctx)
}

// end tells those that wait for the group its fate. Caller holds mu.
func (m *Manager) end(g *group) {
	close(g.done)
	m.ended = append(m.ended, g)
}

// call calls those that asked to be called. Caller, the committer, holds mu; it is released meanwhile.
func (m *Manager) call() {
	if len(m.ended) == 0 {
		return
	}
	ended := m.ended
	m.ended = nil
	quiet := len(ended) == 1 && ended[0].count == 1 && len(m.names.taken) == 0
	m.mu.Unlock()
	defer m.mu.Lock()
	if quiet {
		// Whoever waits for NameChanges goes first: a client that has its answer takes the processor, and it is later that
		// the update of its name is sent. Where there is more to do, no answer waits for that.
		runtime.Gosched()
	}
	for _, g := range ended {
		g.after.mu.Lock()
		calls := g.after.calls
		g.after.over, g.after.calls = true, nil
		g.after.mu.Unlock()
		for _, f := range calls {
			f(g.err)
		}
	}
}
