//go:build linux

package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/dicomnam/dicomnam/integration/lab"
)

// The DHCP side: servers at one end of a wire, a relay agent at the other.
var (
	dhcpServer = netip.MustParsePrefix("10.0.0.1/8")
	dhcpRelay  = netip.MustParsePrefix("10.0.0.2/8")
)

const (
	dhcpPool     = "10.1.0.0-10.32.255.255"
	dhcpPoolSize = 2_097_152
	dhcpPort     = 67
	crowd        = 256       // exchanges at a time: enough that no server waits for clients
	fillLimit    = 1_000_000 // of the pool; the rest is for the measurements
)

// dhcpKinds are the DHCP servers. All give an unknown client an address of one
// large pool, and keep the leases in a file; Kea writes it without a sync, and
// CoreDHCP's own plugin `range` runs in our loop.
func (b *bench) dhcpKinds() (leases, kea, ranged kind) {
	coredhcp := filepath.Join(b.bin, "coredhcp")
	args := func(s setup) []string { return []string{"--conf", filepath.Join(s.dir, "config.yml"), "-L", "error"} }
	leases = kind{name: "leases", program: coredhcp, args: args, files: func(s setup) map[string]string {
		return map[string]string{
			"config.yml": `server4:
  listen: ["%` + lab.Link + `"]
  plugins:
    - leases: site=` + s.dir + `/site.yaml database=` + s.dir + `/leases
`,
			"site.yaml": `domain: bench.example.org
networks:
  - name: bench
    subnet: 10.0.0.0/8
    pools: [` + dhcpPool + `]
    lease-time: 2h
    ddns: {mode: off}
    options: {routers: [10.0.0.1], domain-name-servers: [10.0.0.1]}
`,
		}
	}}
	ranged = kind{name: "range", program: coredhcp, args: args, files: func(s setup) map[string]string {
		return map[string]string{"config.yml": `server4:
  listen: ["%` + lab.Link + `"]
  plugins:
    - server_id: 10.0.0.1
    - netmask: 255.0.0.0
    - router: 10.0.0.1
    - dns: 10.0.0.1
    - range: ` + s.dir + `/leases.sqlite3 10.1.0.0 10.32.255.255 2h
`}
	}}
	kea = kind{
		name: "Kea", program: "kea-dhcp4",
		args: func(s setup) []string { return []string{"-c", filepath.Join(s.dir, "kea.json")} },
		env: func(s setup) []string {
			return []string{"KEA_PIDFILE_DIR=" + s.dir, "KEA_LOCKFILE_DIR=" + s.dir}
		},
		files: func(s setup) map[string]string {
			return map[string]string{"kea.json": fmt.Sprintf(`{"Dhcp4": {
  "interfaces-config": {"interfaces": ["%s"]},
  "lease-database": {"type": "memfile", "persist": true, "name": "%s/leases.csv"},
  "valid-lifetime": 7200, "renew-timer": 3600, "rebind-timer": 6300,
  "multi-threading": {"enable-multi-threading": false},
  "subnet4": [{"id": 1, "subnet": "10.0.0.0/8", "pools": [{"pool": "%s"}],
    "option-data": [{"name": "routers", "data": "10.0.0.1"}, {"name": "domain-name-servers", "data": "10.0.0.1"}]}],
  "loggers": [{"name": "kea-dhcp4", "severity": "ERROR", "output_options": [{"output": "stderr"}]}]
}}
`, lab.Link, s.dir, dhcpPool)}
		},
	}
	return leases, kea, ranged
}

// wire makes the network of the DHCP side.
func (b *bench) wire(ctx context.Context) (err error) {
	if b.net == nil {
		b.net, err = b.newWire(ctx)
	}
	return err
}

// newWire makes a network of its own for a DHCP server and a relay.
func (b *bench) newWire(ctx context.Context) (_ *lab.Lab, err error) {
	if b.mode == lab.Loopback {
		return nil, errors.New("no network namespaces can be made here")
	}
	l, err := lab.New(lab.Config{Mode: b.mode, Server: dhcpServer, Dir: b.lab.Dir, Unrecorded: true})
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, l.Close())
		}
	}()
	if err := l.Plug(ctx, net.HardwareAddr{0x00, 0x00, 0x5e, 0x00, 0x53, 0x02}); err != nil {
		return nil, err
	}
	if err := l.Client.Do(func() error {
		link, err := netlink.LinkByName(lab.Link)
		if err != nil {
			return err
		}
		return netlink.AddrAdd(link, &netlink.Addr{IPNet: &net.IPNet{
			IP: dhcpRelay.Addr().AsSlice(), Mask: net.CIDRMask(dhcpRelay.Bits(), 32),
		}})
	}); err != nil {
		return nil, err // and not what is closed then
	}
	return l, nil
}

// wired is a part that needs that network, and is skipped without it.
func (b *bench) wired(part func(context.Context) error) func(context.Context) error {
	return func(ctx context.Context) error {
		if err := b.wire(ctx); err != nil {
			b.skip("names", err.Error())
			return nil
		}
		return part(ctx)
	}
}

// load is one of the relay's; clients that were used before must not come again.
func (b *bench) load() exchangeLoad { return b.loadOn(b.net) }

func (b *bench) loadOn(l *lab.Lab) exchangeLoad {
	return exchangeLoad{
		from: l.Client, relay: netip.AddrPortFrom(dhcpRelay.Addr(), dhcpPort),
		to: netip.AddrPortFrom(dhcpServer.Addr(), dhcpPort), duration: b.duration,
	}
}

// startDHCP starts a DHCP server on a new directory, and waits for its first
// OFFER. Only one runs at a time: all listen on the same port.
func (b *bench) startDHCP(ctx context.Context, k kind) (*server, error) {
	return b.startDHCPOn(ctx, b.net, k)
}

func (b *bench) startDHCPOn(ctx context.Context, l *lab.Lab, k kind) (*server, error) {
	s, err := b.prepare(k, setup{port: dhcpPort})
	if err != nil {
		return nil, err
	}
	return s, b.launchDHCPOn(ctx, l, s)
}

func (b *bench) launchDHCP(ctx context.Context, s *server) error {
	return b.launchDHCPOn(ctx, b.net, s)
}

func (b *bench) launchDHCPOn(ctx context.Context, l *lab.Lab, s *server) error {
	begin := time.Now()
	var err error
	if s.Process, err = l.Start(l.Server, s.command); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	// A client that never wants what it is offered.
	probe := b.loadOn(l)
	probe.first, probe.window, probe.limit, probe.duration, probe.patience = 1<<31, 1, 1, 0, 5*time.Millisecond
	for {
		got, err := probe.run(ctx)
		switch {
		case err != nil:
			err = fmt.Errorf("waiting for %s to offer an address: %w\n%s", s.Name, err, s.Tail(10))
			s.Kill()
			return err
		case len(got.latencies) > 0:
			s.took = time.Since(begin)
			return nil
		}
		select {
		case <-s.Done():
			return fmt.Errorf("%w\n%s", s.Ended(), s.Tail(10))
		default:
		}
	}
}

// exchanges measures new clients: alone, as many at a time as answers allow, and
// more than can be answered. Servers take turns on empty databases.
func (b *bench) exchanges(ctx context.Context) error {
	if err := b.wire(ctx); err != nil {
		b.skip("exchanges", err.Error())
		return nil
	}
	leases, kea, ranged := b.dhcpKinds()
	kinds := []kind{leases, kea, ranged}
	alone, many := map[string][]*sample{}, map[string][]*sample{}
	var over [len(offered)]map[string][]*sample
	for i := range over {
		over[i] = map[string][]*sample{}
	}
	driven := map[string][]*sample{} // by perfdhcp
	for range b.rounds {
		for i, k := range kinds {
			if k.program == "" {
				continue
			}
			s, err := b.startDHCP(ctx, k)
			if err != nil {
				if i == 0 || ctx.Err() != nil {
					return err
				}
				b.skip(k.name, err.Error())
				kinds[i].program = ""
				continue
			}
			err = func() error {
				load := b.load()
				measure := func(into map[string][]*sample) (*sample, error) {
					got, err := b.measure(ctx, s, func() (*sample, error) { return load.run(ctx) })
					if err != nil {
						return nil, err
					}
					load.first += 10_000_000
					into[k.name] = append(into[k.name], got)
					return got, nil
				}
				load.window = 1
				if _, err := measure(alone); err != nil {
					return err
				}
				load.window = crowd
				got, err := measure(many)
				if err != nil {
					return err
				}
				load.rest = overloadRest
				for i, share := range offered {
					load.rate = share * got.rate()
					if _, err := measure(over[i]); err != nil {
						return err
					}
				}
				got, err = b.measure(ctx, s, func() (*sample, error) { return b.perfdhcp(ctx, perfdhcpRate) })
				if errors.Is(err, errMissing) {
					return nil
				}
				driven[k.name] = append(driven[k.name], got)
				return err
			}()
			s.Kill()
			if err != nil {
				return err
			}
		}
	}
	for _, part := range []struct {
		what    string
		samples map[string][]*sample
		goals   map[string]string
		say     string
	}{
		{"exchanges, one at a time", alone, nil, "goal: p50 at most 1.5 ms, p99 5 ms"},
		{fmt.Sprintf("exchanges, %d at a time", crowd), many, map[string]string{kea.name: "2", ranged.name: "13"}, ""},
		{fmt.Sprintf("exchanges, perfdhcp at %d/s", perfdhcpRate), driven, map[string]string{kea.name: "1"}, "goal: half of Kea's CPU"},
	} {
		for i, k := range kinds {
			if len(part.samples[k.name]) == 0 {
				continue
			}
			got, peer, say := median(part.samples[k.name]), "", part.say
			if i > 0 {
				peer, say = compare(median(part.samples[leases.name]), got, part.goals[k.name]), ""
			}
			b.add(part.what, k.name, got, peer, strings.TrimSpace(say+" "+lostOf(got)))
		}
	}
	for i, n := range offered {
		for _, k := range kinds {
			if len(over[i][k.name]) == 0 {
				continue
			}
			got, peer := median(over[i][k.name]), ""
			if k.name != leases.name {
				peer = compare(median(over[i][leases.name]), got, "")
			}
			say := times(got.rate(), median(many[k.name]).rate(), "") + fmt.Sprintf(" of %d at a time", crowd)
			if i > 0 {
				say += ", " + times(got.rate(), median(over[0][k.name]).rate(), "1") + fmt.Sprintf(" of %g times offered", offered[0])
			}
			b.add(fmt.Sprintf("exchanges, %g times as many as that offered", n), k.name, got, peer, say+"; "+offeredOf(got))
		}
	}
	return nil
}

// offered is how many exchanges a server is offered, as a share of what it does
// where clients wait for it. The first tells what it is worth that the same number
// comes evenly, and one is not begun because another has ended: more than that
// shall not make it slower.
var offered = [...]float64{1, 1.5, 2}

// overloadRest is short beside what a client waits in a server's queue, and long
// beside what it takes to look.
const overloadRest = 500 * time.Microsecond

// offeredOf says how many exchanges were really begun, what became of them, and
// what that took of this program.
func offeredOf(s *sample) string {
	begun := len(s.latencies) + s.lost
	for _, n := range s.failed {
		begun += n
	}
	return strings.TrimSpace(fmt.Sprintf("%d begun, the load took %.1f us of CPU for each served, %s",
		begun, float64(s.own.Microseconds())/float64(max(1, len(s.latencies))), lostOf(s)))
}

// lostOf says how many exchanges were lost, "" if none was.
func lostOf(s *sample) string {
	if s.lost == 0 {
		return ""
	}
	lost := fmt.Sprintf("%d lost (%.1f %%)", s.lost, 100*float64(s.lost)/float64(s.lost+len(s.latencies)))
	if s.missed > 0 {
		lost += fmt.Sprintf(", the load missed %d answers", s.missed)
	}
	return lost
}

// perfdhcpRate is what Kea can follow, and perfdhcp too.
const perfdhcpRate = 4000

// What perfdhcp says at its end, once for DISCOVER and OFFER, and once for
// REQUEST and ACK.
var (
	perfdhcpSent     = regexp.MustCompile(`sent packets:\s+([0-9]+)`)
	perfdhcpReceived = regexp.MustCompile(`received packets:\s+([0-9]+)`)
	perfdhcpDelay    = regexp.MustCompile(`avg delay:\s+([0-9.]+) ms`)
)

// perfdhcp measures with Kea's own load generator. It tells no quantiles, so the
// sum of the two means stands for all.
func (b *bench) perfdhcp(ctx context.Context, rate int) (*sample, error) {
	path, err := lab.LookPath("perfdhcp")
	if err != nil {
		return nil, fmt.Errorf("perfdhcp: %w", errMissing)
	}
	seconds := max(1, int(b.duration.Seconds()))
	out, err := b.net.Output(ctx, b.net.Client, path, "-4", "-l", dhcpRelay.Addr().String(), "-r", strconv.Itoa(rate),
		"-R", "4000000", "-p", strconv.Itoa(seconds), "-W", "1000000", dhcpServer.Addr().String())
	// Its exit status tells that something was lost, as does what it prints.
	got, parsed := parsePerfdhcp(out)
	if parsed != nil {
		return nil, cmp.Or(err, parsed)
	}
	got.elapsed = time.Duration(seconds) * time.Second
	return got, ctx.Err()
}

func parsePerfdhcp(out []byte) (*sample, error) {
	values := func(r *regexp.Regexp) ([2]float64, error) {
		m := r.FindAllSubmatch(out, -1)
		if len(m) != 2 {
			return [2]float64{}, fmt.Errorf("perfdhcp does not tell %s twice: %q", r, out)
		}
		var v [2]float64
		for i := range v {
			var err error
			if v[i], err = strconv.ParseFloat(string(m[i][1]), 64); err != nil {
				return v, err
			}
		}
		return v, nil
	}
	sent, err1 := values(perfdhcpSent)
	received, err2 := values(perfdhcpReceived)
	delay, err3 := values(perfdhcpDelay)
	if err := errors.Join(err1, err2, err3); err != nil {
		return nil, err
	}
	got := newSample()
	got.lost = int(sent[0] - received[1])
	got.latencies = make([]time.Duration, int(received[1]))
	for i := range got.latencies {
		got.latencies[i] = time.Duration((delay[0] + delay[1]) * float64(time.Millisecond))
	}
	return got, nil
}
