package server

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/dicomnam/dicomnam/coredhcp-plugins/pkg/control"
	"github.com/dicomnam/dicomnam/coredhcp-plugins/pkg/lease"
	"github.com/dicomnam/dicomnam/plugin/pkg/site"
)

// Verdict is what a plugin says about the rest of the chain.
type Verdict int

const (
	// Continue hands the exchange to the next plugin.
	Continue Verdict = iota
	// Stop ends the chain here; the reply is sent as it stands.
	Stop
)

// Plugin is a DHCPv4 plugin with a life of its own.
//
// The server calls Start of every plugin in the order of the configuration file
// before it opens a socket, and Close in reverse order after the last exchange
// has ended. Handle is called from many goroutines at once.
type Plugin interface {
	// Start opens what the plugin needs and begins its background work, which
	// may live on ctx: it ends after the last exchange, just before Close. An
	// error ends the server; Close is then not called for this plugin.
	Start(ctx context.Context) error
	// Accepts says whether Handle wants messages of this type. It is asked for
	// every type; [dhcpv4.MessageTypeNone] stands for BOOTP (no option 53).
	Accepts(dhcpv4.MessageType) bool
	// Handle works on one exchange. ctx ends when the server cannot wait for the
	// answer any longer. A plugin that sets Reply to nil ends the chain, whatever
	// it returns, so Reply is never nil when Handle is called.
	Handle(ctx context.Context, x *Exchange) Verdict
	// Close waits for the background work and closes what Start opened.
	Close() error
}

// Prompt is a [Plugin] that can say that its Handle never waits: not for a disk, a
// network or another exchange. What must be on disk before the reply is sent is
// left to [Exchange.Hold]. Where all plugins are prompt, requests are worked on
// by the goroutine that reads them, which takes half the time. It is asked after
// Start and after each Reload.
type Prompt interface {
	Prompt() bool
}

// Commit is what a reply can wait for. Then calls f once, with nil when the reply
// may be sent, or with the reason why it never may; f does not block. Replies
// that wait for equal commits are sent together. A [lease.Commit] is one.
type Commit interface {
	Then(f func(error))
}

var _ Commit = (*lease.Commit)(nil)

// Reloader is a [Plugin] that can take up a changed configuration while it
// runs. The site file was read again when it is called. When it returns an error
// it must have changed nothing.
type Reloader interface {
	Reload() error
}

// Readier is a [Plugin] that can say that it cannot do its work at present. Ready
// returns why, or nil. It is asked for each /ready of the admin address, from many
// goroutines at once, once all plugins have started, and must not wait for anything.
type Readier interface {
	Ready() error
}

// Observer is a [Plugin] that looks at what comes of exchanges, also of those that a
// plugin before it has ended. Observe is called after the chain with the reply that
// leaves next, nil if there is none, and must neither change it nor wait for
// anything. It may have the reply wait ([Exchange.Hold]).
type Observer interface {
	Observe(x *Exchange, reply *dhcpv4.DHCPv4)
}

// NewFunc makes a plugin from its arguments in the configuration file. It only
// checks and keeps them: files and sockets are opened by Start.
type NewFunc func(args []string, host *Host) (Plugin, error)

// Exchange is one request and the reply that the plugins make of it.
type Exchange struct {
	// Request is the client's message. It must not be changed.
	Request *dhcpv4.DHCPv4
	// Reply is prepared with the header fields, the message type that answers the
	// request (OFFER, ACK), and the copies of options 61 and 82 (RFC 6842, RFC
	// 3046), which the server keeps as they were received whatever plugins do to
	// them. nil: no answer. What is put here in answer to DHCPRELEASE and
	// DHCPDECLINE is never sent. A NAK is sent with options 53, 54, 56, 61 and 82
	// alone, an answer to DHCPINFORM without address and lease times. Its options
	// are the next exchange's when the plugins have returned: they must not be kept.
	Reply *dhcpv4.DHCPv4
	// Interface is the name of the interface that the request came in on, "" if
	// it is not known (in a stock CoreDHCP).
	Interface string
	// Addresses are the IPv4 addresses of that interface. The slice is shared and
	// must not be changed.
	Addresses []netip.Addr
	// Broadcast says that the request was sent to 255.255.255.255: the client, or
	// a relay, is on the wire of Interface. Not known in a stock CoreDHCP.
	Broadcast bool
	// ServerID is the server identifier (option 54) for this exchange: the
	// argument of `server_id` wherever that stands in the chain, else that address
	// of the interface which the client knows or can reach. The zero Addr if the
	// interface has no address.
	ServerID netip.Addr
	// Options are those of the site file for this client, set by the plugin that
	// gives addresses: it alone knows which device and classes the client is. nil
	// where none has answered, and in a stock CoreDHCP.
	Options *site.Options

	options dhcpv4.Options // for the reply, from one exchange to the next; nil: none yet
	holds   bool
	commit  Commit // nil: the reply is ready
	again   *Again // not nil: there is no reply yet
}

// Holds says whether Hold can be used: not in a stock CoreDHCP, whose replies
// leave when the plugins return.
func (x *Exchange) Holds() bool { return x.holds }

// Hold has the reply wait for c, and for whatever else it waits for already; and
// with it the replies to what the same client sends next.
func (x *Exchange) Hold(c Commit) {
	if x.commit != nil {
		c = both{x.commit, c}
	}
	x.commit = c
}

// both is one commit after another.
type both struct{ first, second Commit }

func (b both) Then(f func(error)) {
	b.first.Then(func(err error) {
		if err != nil {
			f(err)
			return
		}
		b.second.Then(f)
	})
}

// Host is what the plugins of one server share. The zero Host is that of a stock
// CoreDHCP: what is registered with it is kept, but nobody serves it.
type Host struct {
	leases atomic.Pointer[lease.Manager]
	siteMu sync.Mutex // guards site
	site   *SiteFile  // nil until a plugin asks for it

	once    sync.Once // makes metrics and control
	metrics *prometheus.Registry
	control *control.Server
}

// register makes the places where plugins register things.
func (h *Host) register() {
	h.once.Do(func() {
		h.metrics = prometheus.NewRegistry()
		h.metrics.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
		h.control = control.NewServer()
		h.control.Logger = newLogger("control")
	})
}

// Metrics is where plugins register what they measure, as coredhcp_PLUGIN_NAME;
// it is served as /metrics of the admin address ([Options]). A plugin registers
// in its NewFunc, and hands on the error of a second registration.
func (h *Host) Metrics() prometheus.Registerer { return h.registry() }

func (h *Host) registry() *prometheus.Registry {
	h.register()
	return h.metrics
}

// OnControl has f carry out a command of the control socket ([Options]). A
// plugin registers its commands in its NewFunc; one that is registered twice is
// an error of [Server.Run]. f is called between Start and Close, from many
// goroutines at once.
func (h *Host) OnControl(command string, f control.Handler) {
	h.register()
	h.control.Handle(command, f)
}

// Logger returns a logger for the named plugin that writes through CoreDHCP's,
// so that CoreDHCP's log flags act on it.
func (h *Host) Logger(name string) *slog.Logger { return newLogger("plugins/" + name) }

// SetLeases makes the lease manager known to the other plugins.
func (h *Host) SetLeases(m *lease.Manager) { h.leases.Store(m) }

// Leases returns the lease manager, nil if no plugin has set one (yet).
func (h *Host) Leases() *lease.Manager { return h.leases.Load() }

var registry = struct {
	sync.RWMutex
	plugins map[string]NewFunc
}{plugins: make(map[string]NewFunc)}

// Register makes a plugin available under the name that the configuration file
// uses. It stands before a CoreDHCP plugin of the same name. Meant for init
// functions and mains: it panics when the name is empty or taken, or f is nil.
func Register(name string, f NewFunc) {
	registry.Lock()
	defer registry.Unlock()
	if name == "" || f == nil {
		panic("server: Register needs a name and a function")
	}
	if _, taken := registry.plugins[name]; taken {
		panic(fmt.Sprintf("server: plugin %q is already registered", name))
	}
	registry.plugins[name] = f
}

// Registered returns the names of all plugins that were registered here, sorted.
func Registered() []string {
	registry.RLock()
	defer registry.RUnlock()
	names := make([]string, 0, len(registry.plugins))
	for name := range registry.plugins {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

func registered(name string) NewFunc {
	registry.RLock()
	defer registry.RUnlock()
	return registry.plugins[name]
}
