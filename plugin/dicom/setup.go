package dicom

import (
	"slices"
	"sync"

	"github.com/coredns/caddy"
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/plugin"
	"github.com/coredns/coredns/plugin/transfer"

	"github.com/miekg/dns"
)

func init() { plugin.Register(pluginName, setup) }

func setup(c *caddy.Controller) error {
	cfg, err := parse(c)
	if err != nil {
		return plugin.Error(pluginName, err)
	}
	d := newDicom(cfg)

	server := dnsserver.GetConfig(c)
	server.AllowOpcode(dns.OpcodeUpdate)
	server.AddPlugin(func(next plugin.Handler) plugin.Handler {
		d.Next = next
		return d
	})
	c.OnStartup(func() error {
		// transfer stands before dicom in the chain and is complete only now.
		if t, ok := server.Handler("transfer").(*transfer.Transfer); ok {
			d.secondaries = t
		}
		return nil
	})
	c.OnShutdown(d.close)
	startWith(c, d)
	return nil
}

// handlersKey is where a caddy instance keeps its []*Dicom.
type handlersKey struct{}

var hookMu sync.Mutex

// startWith arranges that d is started as soon as its whole server is: a start-up
// that fails later, at a busy port for example, runs no shutdown callbacks, and
// would leave the database locked and a goroutine running.
func startWith(c *caddy.Controller, d *Dicom) {
	handlers, _ := c.Get(handlersKey{}).([]*Dicom)
	c.Set(handlersKey{}, append(handlers, d))

	// The hook is one for the process, and a reload by SIGUSR1 removes all hooks.
	hookMu.Lock()
	defer hookMu.Unlock()
	if !slices.Contains(caddy.ListPlugins()["event_hooks"], pluginName) {
		caddy.RegisterEventHook(pluginName, startHook)
	}
}

// startHook starts the handlers of an instance that is now serving.
func startHook(event caddy.EventName, info any) error {
	instance, ok := info.(*caddy.Instance)
	if event != caddy.InstanceStartupEvent || !ok {
		return nil
	}
	instance.StorageMu.RLock()
	handlers, _ := instance.Storage[handlersKey{}].([]*Dicom)
	instance.StorageMu.RUnlock()
	for _, d := range handlers {
		// A failure is logged there, and tried again with the next request.
		d.start() //nolint:errcheck
	}
	return nil
}
