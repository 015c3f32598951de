//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/miekg/dns"

	"github.com/dicomnam/dicomnam/integration/lab"
)

// What the servers are told: one zone, and one key that may change all of it.
const (
	zoneName = "bench.example.org."
	keyName  = "bench.example.org."
	secret   = "i9M+00yrECfVZG2qCjr4mPpaGim/Bq+IWMiNrLjUO4Y="
)

// A setup is what a server's configuration is made from.
type setup struct {
	dir   string // of this server alone
	port  uint16 // of 127.0.0.1, UDP and TCP
	debug uint16 // where CoreDNS serves its profiles
	zone  string // zone file
	site  string // site file, in place of the zone file
}

// A kind of server: its program, and the files and arguments that make it serve
// the zone. Where it takes updates, they are on the disk before the answer.
type kind struct {
	name      string
	program   string // without "/": looked for where administrators have it
	args      func(setup) []string
	env       func(setup) []string          // nil: none
	files     func(setup) map[string]string // path below setup.dir: content
	maxUpdate int                           // largest zone whose updates are worth measuring; 0: any
}

// kinds are the servers by name.
func (b *bench) kinds() (dicom, dynupdate, file, bind, knot kind) {
	coredns := filepath.Join(b.bin, "coredns")
	args := func(s setup) []string {
		return []string{"-conf", filepath.Join(s.dir, "Corefile"), "-dns.port", strconv.Itoa(int(s.port))}
	}
	dicom = kind{name: "dicom", program: coredns, args: args, files: func(s setup) map[string]string {
		zones, from := strings.TrimSuffix(zoneName, "."), "file "+s.zone
		if s.site != "" {
			zones, from = siteZones, "site "+s.site
		}
		return map[string]string{"tsig.keys": keyStatement, "Corefile": zones + ` {
    bind 127.0.0.1
    errors
    pprof 127.0.0.1:` + strconv.Itoa(int(s.debug)) + `
    tsig {
        secrets ` + s.dir + `/tsig.keys
        require_opcode UPDATE
    }
    dicom {
        ` + from + `
        database ` + s.dir + `/zones
        allow ` + keyName + ` * *
    }
}
`}
	}}
	dynupdate = kind{name: "dynupdate", program: coredns, args: args, maxUpdate: 10_000, files: func(s setup) map[string]string {
		return map[string]string{"tsig.keys": keyStatement, "Corefile": strings.TrimSuffix(zoneName, ".") + ` {
    bind 127.0.0.1
    errors
    tsig {
        secrets ` + s.dir + `/tsig.keys
        require_opcode UPDATE
    }
    dynupdate {
        file ` + s.zone + `
        database ` + s.dir + `/zone.db
        allow ` + keyName + ` * *
        max_records 5000000
        max_bytes 1073741824
    }
}
`}
	}}
	file = kind{name: "file", program: coredns, args: args, files: func(s setup) map[string]string {
		return map[string]string{"Corefile": strings.TrimSuffix(zoneName, ".") + ` {
    bind 127.0.0.1
    errors
    file ` + s.zone + `
}
`}
	}}
	bind = kind{
		name: "BIND", program: "named",
		args: func(s setup) []string { return []string{"-f", "-c", filepath.Join(s.dir, "named.conf")} },
		files: func(s setup) map[string]string {
			return map[string]string{"named.conf": keyStatement + fmt.Sprintf(`
options {
    directory "%s";
    listen-on port %d { 127.0.0.1; };
    listen-on-v6 { none; };
    pid-file none;
    session-keyfile none;
    recursion no;
    dnssec-validation no;
    notify no;
    tcp-clients 1000;
    update-quota 1000; // the default, 100, turns some of 128 clients away
};
controls { };
zone "%s" { type primary; file "%s"; allow-update { key "%s"; }; };
`, s.dir, s.port, zoneName, s.zone, keyName)}
		},
	}
	knot = kind{
		name: "Knot", program: "knotd",
		args: func(s setup) []string { return []string{"-c", filepath.Join(s.dir, "knot.conf")} },
		files: func(s setup) map[string]string {
			// The journal is what makes updates durable. Without zonefile-sync the
			// zone file is not rewritten meanwhile, as with BIND's first 15 minutes.
			return map[string]string{"knot.conf": fmt.Sprintf(`server:
    rundir: %[1]s
    listen: 127.0.0.1@%[2]d
    pidfile: %[1]s/knot.pid
database:
    storage: %[1]s
log:
  - target: stderr
    any: warning
key:
  - id: %[3]s
    algorithm: hmac-sha256
    secret: %[4]s
acl:
  - id: update
    key: %[3]s
    action: update
zone:
  - domain: %[5]s
    storage: %[1]s
    file: %[6]s
    zonefile-sync: -1
    zonefile-load: whole
    journal-max-usage: 1G
    acl: update
`, s.dir, s.port, keyName, secret, zoneName, s.zone)}
		},
	}
	return dicom, dynupdate, file, bind, knot
}

// keyStatement is the key as BIND and CoreDNS's tsig read it.
const keyStatement = `key "` + keyName + `" {
    algorithm hmac-sha256;
    secret "` + secret + `";
};
`

// A server is a process that serves the zone.
type server struct {
	kind
	setup
	*lab.Process
	command lab.Command
	address netip.AddrPort
	took    time.Duration // from the start to the first right answer
}

// errMissing says that a program is not installed.
var errMissing = errors.New("not installed")

// start starts a server on a new directory, and waits until it answers for the
// name. A zone file is copied, since some servers write beside it or over it.
func (b *bench) start(ctx context.Context, k kind, s setup, name string) (*server, error) {
	loopback := netip.MustParseAddr("127.0.0.1")
	var err error
	if s.port, err = lab.FreePort(ctx, loopback); err != nil {
		return nil, err
	}
	if s.debug, err = lab.FreePort(ctx, loopback); err != nil {
		return nil, err
	}
	r, err := b.prepare(k, s)
	if err != nil {
		return nil, err
	}
	r.address = netip.AddrPortFrom(loopback, s.port)
	return r, b.launch(ctx, r, name)
}

// prepare writes what a server needs into a new directory.
func (b *bench) prepare(k kind, s setup) (*server, error) {
	path, err := lab.LookPath(k.program)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", k.program, errMissing)
	}
	b.count++
	s.dir = filepath.Join(b.lab.Dir, fmt.Sprintf("%s-%d", k.name, b.count))
	if err := os.Mkdir(s.dir, 0o755); err != nil {
		return nil, err
	}
	for name, content := range k.files(s) {
		if err := os.WriteFile(filepath.Join(s.dir, name), []byte(content), 0o644); err != nil {
			return nil, err
		}
	}
	r := &server{kind: k, setup: s, command: lab.Command{Name: filepath.Base(s.dir), Path: path, Args: k.args(s), Dir: s.dir}}
	if k.env != nil {
		r.command.Env = k.env(s)
	}
	return r, nil
}

// launch starts the process of a server, again if it was stopped.
func (b *bench) launch(ctx context.Context, s *server, name string) error {
	begin := time.Now()
	var err error
	if s.Process, err = b.lab.Start(b.lab.Server, s.command); err != nil {
		return err
	}
	if err := s.await(ctx, name); err != nil {
		s.Kill()
		return fmt.Errorf("%w\n%s", err, s.Tail(10))
	}
	s.took = time.Since(begin)
	return nil
}

// await waits until the server has an address for a name.
func (s *server) await(ctx context.Context, name string) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	m := new(dns.Msg).SetQuestion(name, dns.TypeA)
	client := &dns.Client{Timeout: 200 * time.Millisecond}
	for {
		if r, _, err := client.ExchangeContext(ctx, m, s.address.String()); err == nil && len(r.Answer) > 0 {
			return nil
		}
		select {
		case <-s.Done():
			return s.Ended()
		case <-ctx.Done():
			return fmt.Errorf("waiting for %s to answer: %w", s.Name, ctx.Err())
		case <-time.After(2 * time.Millisecond):
		}
	}
}

// startAll starts servers side by side on the same zone. A peer that cannot
// start is skipped; dicom, the first, may not fail.
func (b *bench) startAll(ctx context.Context, zone, name string, kinds ...kind) ([]*server, error) {
	var servers []*server
	for i, k := range kinds {
		s, err := b.start(ctx, k, setup{zone: zone}, name)
		switch {
		case err == nil:
			servers = append(servers, s)
		case i == 0 || ctx.Err() != nil:
			killAll(servers)
			return nil, err
		default:
			b.skip(k.name, err.Error())
		}
	}
	return servers, nil
}

// killAll ends servers whose data nobody needs any more.
func killAll(servers []*server) {
	for _, s := range servers {
		s.Kill()
	}
}
