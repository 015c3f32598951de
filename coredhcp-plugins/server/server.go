package server

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coredhcp/coredhcp/config"
	"github.com/coredhcp/coredhcp/plugins"
	stock "github.com/coredhcp/coredhcp/server"
	"golang.org/x/sync/errgroup"
)

// drainTime is how long a server that is told to stop waits for the exchanges
// that it has begun.
const drainTime = 5 * time.Second

// Server runs the plugins of one configuration file.
type Server struct {
	conf       *config.Config
	chain      []link
	serverID   netip.Addr // argument of `server_id`, else the zero Addr
	host       *Host
	log        *slog.Logger
	interfaces *interfaces
	frames     frameWriter
	noFrames   atomic.Bool // no permission for packet sockets
	prompt     atomic.Bool // no plugin waits for anything
	lines      struct{ malformed, overflow, panicked, read, send, nameless *Limited }
	metrics    *metrics
	options    Options
	workers    *workers       // set before the first packet is read
	holding    sync.WaitGroup // answers that wait for a commit
	held       atomic.Int64   // how many exchanges wait for one

	queuesMu sync.Mutex
	queues   []*queue

	ran   atomic.Bool
	phase atomic.Int32
	// mu guards started: the plugins whose Start has returned and that are not
	// being closed.
	mu      sync.Mutex
	started []link

	socketsMu sync.Mutex
	sockets   []*listener // open, until they are dropped or the server ends

	listening chan struct{} // closed when the sockets that can be had are open
}

// Options are what the configuration file has no word for. Nothing is opened
// unless it is asked for here.
type Options struct {
	// Admin is the TCP address, HOST:PORT, of /metrics, /health and /ready. "": none.
	Admin string
	// Control is the path of the Unix socket for commands. "": none.
	Control string
}

// The phases of a server's life.
const (
	phaseStarting = iota
	phaseServing
	phaseStopping
)

// New makes a server from a loaded configuration. Plugins that were registered
// with [Register] are made by their NewFunc; all others are CoreDHCP's and are
// set up here as CoreDHCP does it, which may open the files they use. A name
// that neither knows is an error.
func New(conf *config.Config, options Options) (*Server, error) {
	if conf == nil || conf.Server4 == nil && conf.Server6 == nil {
		return nil, errors.New("no configuration for either DHCPv4 or DHCPv6")
	}
	s := &Server{
		conf:       conf,
		host:       &Host{},
		log:        newLogger("server"),
		interfaces: newInterfaces(),
		frames:     &packetSockets{},
		listening:  make(chan struct{}),
		options:    options,
	}
	s.metrics = newMetrics(s.host.Metrics(), s.waiting, s.openSockets)
	s.lines.malformed, s.lines.overflow, s.lines.panicked = NewLimited(), NewLimited(), NewLimited()
	s.lines.read, s.lines.send, s.lines.nameless = NewLimited(), NewLimited(), NewLimited()
	if conf.Server6 != nil {
		for _, p := range conf.Server6.Plugins {
			if plugins.RegisteredPlugins[p.Name] == nil {
				return nil, fmt.Errorf("DHCPv6: unknown plugin %q", p.Name)
			}
		}
	}
	if conf.Server4 == nil {
		return s, nil
	}
	for _, p := range conf.Server4.Plugins {
		l, err := s.load(p)
		if err != nil {
			return nil, fmt.Errorf("DHCPv4: plugin %s: %w", p.Name, err)
		}
		if l.plugin == nil && l.handler == nil {
			s.log.Warn("plugin does nothing for DHCPv4", "plugin", p.Name)
			continue
		}
		s.chain = append(s.chain, l)
		if p.Name == "server_id" && len(p.Args) > 0 {
			id, err := netip.ParseAddr(p.Args[0])
			if err != nil || !id.Unmap().Is4() {
				return nil, fmt.Errorf("DHCPv4: plugin server_id: %q is not an IPv4 address", p.Args[0])
			}
			s.serverID = id.Unmap()
		}
	}
	return s, nil
}

func (s *Server) load(p config.PluginConfig) (link, error) {
	l := link{name: p.Name}
	var err error
	if newPlugin := registered(p.Name); newPlugin != nil {
		l.plugin, err = newPlugin(p.Args, s.host)
		if err == nil && l.plugin == nil {
			err = errors.New("it gave no plugin")
		}
		return l, err
	}
	known := plugins.RegisteredPlugins[p.Name]
	if known == nil {
		return l, errors.New("unknown")
	}
	if known.Setup4 == nil {
		return l, nil
	}
	l.handler, err = known.Setup4(p.Args...)
	if err == nil && l.handler == nil {
		err = errors.New("it gave no handler")
	}
	return l, err
}

// Run starts the plugins, opens the sockets, and serves until ctx ends. It then
// stops reading, finishes what it has begun, for 5 seconds at most, and closes
// the plugins in reverse order. It returns nil after a clean stop, and runs once.
//
// An address that cannot be listened on because its interface or the address
// does not exist yet is waited for; any other failure to listen is an error.
func (s *Server) Run(ctx context.Context) error {
	if !s.ran.CompareAndSwap(false, true) {
		return errors.New("the server has run already")
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	admin, ctx := errgroup.WithContext(ctx)
	if s.options.Admin != "" {
		l, err := listenAdmin(ctx, s.options.Admin)
		if err != nil {
			return err
		}
		s.serveAdmin(admin, ctx, l)
	}
	err := s.run(ctx)
	stop()
	return errors.Join(err, admin.Wait())
}

func (s *Server) run(ctx context.Context) (err error) {
	defer context.AfterFunc(ctx, func() { s.phase.Store(phaseStopping) })()
	// The plugins outlive ctx by the time that the last exchanges take.
	life, end := context.WithCancel(context.WithoutCancel(ctx))
	defer func() { err = errors.Join(err, s.closePlugins(end)) }()
	if err := s.startPlugins(ctx, life, end); err != nil {
		if ctx.Err() != nil {
			return nil // told to stop before it was up
		}
		return err
	}
	group, running := errgroup.WithContext(ctx)
	if err := s.serve6(group, running); err != nil {
		return err
	}
	if s.conf.Server4 != nil {
		group.Go(func() error { return s.serve4(running, life) })
	}
	if path := s.options.Control; path != "" {
		s.host.register() // no plugin may have done it
		group.Go(func() error { return s.host.control.Serve(running, path) })
	}
	s.phase.CompareAndSwap(phaseStarting, phaseServing)
	return group.Wait()
}

// startPlugins starts the plugins in order. Only while they start does the end
// of ctx end their life.
func (s *Server) startPlugins(ctx, life context.Context, end context.CancelFunc) error {
	defer context.AfterFunc(ctx, end)()
	s.mu.Lock() // a Reload meanwhile waits, lest a plugin miss it
	defer s.mu.Unlock()
	for _, l := range s.chain {
		if l.plugin == nil {
			continue
		}
		if err := l.plugin.Start(life); err != nil {
			return fmt.Errorf("starting plugin %s: %w", l.name, err)
		}
		s.started = append(s.started, l)
	}
	s.prompt.Store(s.isPrompt())
	return ctx.Err()
}

func (s *Server) closePlugins(end context.CancelFunc) error {
	s.mu.Lock()
	started := s.started
	s.started = nil
	s.mu.Unlock()
	end()
	var errs []error
	for _, l := range slices.Backward(started) {
		if err := l.plugin.Close(); err != nil {
			errs = append(errs, fmt.Errorf("closing plugin %s: %w", l.name, err))
		}
	}
	return errors.Join(errs...)
}

// Reload reads the site file again and calls every running plugin that is a
// [Reloader]. With an error in the file nothing changes and no plugin is called;
// a plugin that returns an error goes on as it was.
func (s *Server) Reload() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.host.ReloadSite(); err != nil {
		return err
	}
	var errs []error
	for _, l := range s.started {
		if r, ok := l.plugin.(Reloader); ok {
			if err := r.Reload(); err != nil {
				errs = append(errs, fmt.Errorf("reloading plugin %s: %w", l.name, err))
			}
		}
	}
	s.prompt.Store(s.isPrompt())
	return errors.Join(errs...)
}

// serve6 runs CoreDHCP's own DHCPv6 server, if one is configured.
func (s *Server) serve6(group *errgroup.Group, ctx context.Context) error {
	if s.conf.Server6 == nil || len(s.conf.Server6.Addresses) == 0 {
		return nil
	}
	v6, err := stock.Start(&config.Config{Server6: s.conf.Server6})
	if err != nil {
		return fmt.Errorf("DHCPv6: %w", err)
	}
	group.Go(func() error {
		defer context.AfterFunc(ctx, v6.Close)()
		if err := v6.Wait(); ctx.Err() == nil {
			return fmt.Errorf("DHCPv6: server has stopped: %w", err)
		}
		return nil
	})
	return nil
}

// serve4 serves DHCPv4 until ctx ends. life is the context of the plugins.
func (s *Server) serve4(ctx, life context.Context) (err error) {
	defer func() { err = errors.Join(err, s.closeSockets()) }()
	addresses := s.conf.Server4.Addresses
	first := make([]*listener, len(addresses))
	for _, i := range widestFirst(addresses) {
		a := addresses[i]
		l, err := s.listen(ctx, a)
		switch {
		case errors.Is(err, errAbsent):
			continue
		case err != nil:
			return fmt.Errorf("DHCPv4: %w", err)
		}
		s.log.Info("listening", "address", a.String())
		first[i] = l
	}
	close(s.listening)

	working, stop := context.WithCancel(life)
	defer stop()
	w := startWorkers(workerCount, waitingRequests/workerCount, func() func(*received) {
		l := s.newLane()
		return func(r *received) {
			l.work(working, r)
			l.out.flush() // the next one may take long
		}
	})
	s.workers = w
	s.watch(w.queues...)
	var readers sync.WaitGroup
	for i, a := range addresses {
		r := &reader{server: s, workers: w, lane: s.newLane(), queue: newQueue(waitingRequests)}
		s.watch(r.queue)
		readers.Go(func() { r.serve(ctx, working, a, first[i]) })
	}
	done := make(chan struct{})
	go func() {
		readers.Wait()
		w.finish()
		s.holding.Wait()
		close(done)
	}()
	<-ctx.Done()
	return drain(done, stop)
}

// widestFirst returns the addresses' indexes in the order in which their sockets
// are opened: what is bound to the least comes first, since it finds what others
// have at any interface, which a socket that shares with ours may not.
func widestFirst(addresses []net.UDPAddr) []int {
	bound := func(i int) (n int) {
		if addresses[i].Zone != "" {
			n += 2
		}
		if ip := addresses[i].IP; ip != nil && !ip.IsUnspecified() {
			n++
		}
		return n
	}
	order := make([]int, len(addresses))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(bound(a), bound(b)) })
	return order
}

// drain waits until all that was begun is finished, which closes done, and calls
// hurry when that takes too long.
func drain(done <-chan struct{}, hurry func()) error {
	select {
	case <-done:
		return nil
	case <-time.After(drainTime):
	}
	hurry()
	const grace = drainTime / 5
	select {
	case <-done:
		return nil
	case <-time.After(grace):
		return fmt.Errorf("DHCPv4: plugins were still busy with requests %s after the stop", drainTime+grace)
	}
}

func (s *Server) drop(l *listener) {
	s.socketsMu.Lock()
	defer s.socketsMu.Unlock()
	s.sockets = slices.DeleteFunc(s.sockets, func(other *listener) bool { return other == l })
	_ = l.socket.close() // its interface is gone
}

func (s *Server) closeSockets() error {
	s.socketsMu.Lock()
	defer s.socketsMu.Unlock()
	var errs []error
	for _, l := range s.sockets {
		errs = append(errs, l.socket.close())
	}
	s.sockets = nil
	return errors.Join(append(errs, s.frames.close())...)
}

// openSockets is the number of sockets that clients can reach.
func (s *Server) openSockets() float64 {
	s.socketsMu.Lock()
	defer s.socketsMu.Unlock()
	return float64(len(s.sockets))
}

// watch has the packets in these queues counted as waiting.
func (s *Server) watch(queues ...*queue) {
	s.queuesMu.Lock()
	defer s.queuesMu.Unlock()
	s.queues = append(s.queues, queues...)
}

// waiting is the number of requests that wait.
func (s *Server) waiting() float64 {
	s.queuesMu.Lock()
	defer s.queuesMu.Unlock()
	n := 0
	for _, q := range s.queues {
		n += q.waiting()
	}
	return float64(n)
}
