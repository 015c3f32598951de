package dicom

import (
	"fmt"
	"os"
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
	handlers, _ := c.Get(handlersKey{}).([]*Dicom)
	if err := apart(handlers, cfg); err != nil {
		return plugin.Error(pluginName, c.Err(err.Error()))
	}
	d := newDicom(cfg)
	d.block, d.keys = c.ServerBlockIndex, c.ServerBlockKeys
	c.Set(handlersKey{}, append(handlers, d))

	server := dnsserver.GetConfig(c)
	server.AllowOpcode(dns.OpcodeUpdate)
	server.UDPDecorateWriterFunc = roomy(server.UDPDecorateWriterFunc)
	server.AddPlugin(func(next plugin.Handler) plugin.Handler {
		d.Next = next
		return d
	})
	c.OnStartup(func() error {
		// transfer and tsig stand before dicom in the chain, which is complete
		// only now.
		d.transfer, _ = server.Handler("transfer").(*transfer.Transfer)
		d.know()
		if len(d.rules) > 0 && server.Handler("tsig") == nil {
			log.Warningf("No tsig in the server block of %v: all updates are refused, whatever allow says", d.config.zones)
		}
		return nil
	})
	c.OnRestart(func() error {
		successors.begin()
		d.replaced.Store(true)
		return nil
	})
	c.OnRestartFailed(func() error {
		successors.begin()
		d.replaced.Store(false)
		return nil
	})
	c.OnShutdown(d.close)
	successors.add(d)
	hookStart()
	return nil
}

// successors are the handlers of the instance that was set up last. An instance
// that is replaced ends before the event that tells of the new one, and after
// that one serves. So it starts the handlers of the new one before it gives its
// store back: else the database would be closed and read again at each reload of
// a Corefile, while queries wait.
var successors inheritance

type inheritance struct {
	mu       sync.Mutex
	handlers []*Dicom
}

func (i *inheritance) begin() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.handlers = nil
}

func (i *inheritance) add(d *Dicom) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.handlers = append(i.handlers, d)
}

// start starts those that use the database. Who calls it is none of them.
func (i *inheritance) start(database string) {
	i.mu.Lock()
	handlers := slices.Clone(i.handlers)
	i.mu.Unlock()
	for _, d := range handlers {
		if sameDatabase(d.database, database) {
			// A failure is logged there, and tried again with the next request.
			_ = d.start()
		}
	}
}

// apart refuses a zone that another server block of the same instance keeps in
// the same database: each would undo the other's site data. And it refuses a
// directory for the backups of two databases: each would remove the other's.
func apart(handlers []*Dicom, cfg *config) error {
	for _, d := range handlers {
		if b := d.backup; b != nil && cfg.backup != nil && realPath(b.dir) == realPath(cfg.backup.dir) && !sameDatabase(d.database, cfg.database) {
			return fmt.Errorf("backup %q stands in another server block already, for database %q: each database needs a directory of its own", cfg.backup.dir, d.database)
		}
		for _, origin := range cfg.zones {
			if d.zones[origin] != nil && sameDatabase(d.database, cfg.database) {
				return fmt.Errorf("zone %s of database %q stands in another server block already: serve it from one block, with all its addresses", origin, cfg.database)
			}
		}
	}
	return nil
}

// sameDatabase reports whether two paths, "" for memory, lead to one database.
func sameDatabase(a, b string) bool {
	if a == "" || b == "" {
		return false
	}
	x, errX := os.Stat(a)
	y, errY := os.Stat(b)
	return a == b || errX == nil && errY == nil && os.SameFile(x, y)
}

// handlersKey is where a caddy instance keeps its []*Dicom.
type handlersKey struct{}

var hookMu sync.Mutex

// hookStart arranges that handlers are started as soon as their whole server is:
// a start-up that fails later, at a busy port for example, runs no shutdown
// callbacks, and would leave the database locked and a goroutine running. The
// hook is one for the process, and a reload by SIGUSR1 removes all hooks.
func hookStart() {
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
		_ = d.start()
	}
	return nil
}
