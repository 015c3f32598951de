//go:build linux

package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/miekg/dns"

	"github.com/dicomnam/dicomnam/integration/lab"
)

const (
	nameZone    = "names.example.org."
	nameReverse = "10.in-addr.arpa."
	namePrefix  = "pc"
	nameAdmin   = 9567
	d2Port      = 53001
	dnsPort     = 53
	slowPort    = 5353 // of a slowPath
)

// clientName is what the n-th client calls itself.
func clientName(n int) string { return namePrefix + strconv.Itoa(n) }

// A nameStack is the servers that together give leases and show their names. The name server is the first, the DHCP
// server the last.
type nameStack struct {
	name  string
	kinds []kind
	admin bool // its DHCP server tells metrics
}

// runningStack is one that runs.
type runningStack struct {
	nameStack
	servers []*server
	dns     netip.AddrPort
	admin   netip.AddrPort
	from    *lab.Namespace
}

// nameStacks are ours, and Kea with its D2 and BIND. Updates go to a port of the name server's address.
func (b *bench) nameStacks(updates uint16) []nameStack {
	coredns := kind{name: "coredns-names", program: filepath.Join(b.bin, "coredns"),
		args: func(s setup) []string { return []string{"-conf", filepath.Join(s.dir, "Corefile")} },
		files: func(s setup) map[string]string {
			return map[string]string{"tsig.keys": keyStatement,
				"site.yaml": "domain: names.example.org\nnetworks:\n  - {name: bench, subnet: 10.0.0.0/8}\n",
				"Corefile": fmt.Sprintf(`names.example.org 10.in-addr.arpa {
    bind 10.0.0.1
    errors
    pprof 10.0.0.1:%[3]d
    tsig {
        secrets %[1]s/tsig.keys
        require_opcode UPDATE
    }
    transfer {
        to *
    }
    dicom {
        site %[1]s/site.yaml
        database %[1]s/zones
        allow %[2]s * *
    }
}
`, s.dir, keyName, nameAdmin+1)}
		}}
	coredhcp := kind{name: "coredhcp-names", program: filepath.Join(b.bin, "coredhcp"),
		args: func(s setup) []string {
			return []string{"--conf", filepath.Join(s.dir, "config.yml"), "-L", "error", "--admin", "10.0.0.1:" + strconv.Itoa(nameAdmin)}
		},
		files: func(s setup) map[string]string {
			return map[string]string{"tsig.keys": keyStatement,
				"config.yml": fmt.Sprintf(`server4:
  listen: ["%%%[1]s"]
  plugins:
    - leases: site=%[2]s/site.yaml database=%[2]s/leases
    - ddns: site=%[2]s/site.yaml server=10.0.0.1:%[4]d keys=%[2]s/tsig.keys key=%[3]s
`, lab.Link, s.dir, keyName, updates),
				"site.yaml": `domain: names.example.org
networks:
  - name: bench
    subnet: 10.0.0.0/8
    pools: [` + dhcpPool + `]
    lease-time: 2h
    options: {routers: [10.0.0.1], domain-name-servers: [10.0.0.1]}
`}
		}}
	named := kind{name: "BIND-names", program: "named",
		args: func(s setup) []string { return []string{"-f", "-c", filepath.Join(s.dir, "named.conf")} },
		files: func(s setup) map[string]string {
			zone := "$TTL 300\n@ SOA ns." + nameZone + " hostmaster." + nameZone + " 1 3600 600 86400 60\n@ NS ns." + nameZone + "\n"
			return map[string]string{"forward": zone + "ns A 10.0.0.1\n", "reverse": zone, "named.conf": keyStatement + fmt.Sprintf(`
options {
    directory "%[1]s";
    listen-on port 53 { 10.0.0.1; 127.0.0.1; };
    listen-on-v6 { none; };
    pid-file none;
    session-keyfile none;
    recursion no;
    dnssec-validation no;
    allow-query { any; };
    allow-transfer { any; };
    notify no;
};
controls { };
zone "names.example.org" { type primary; file "forward"; allow-update { key "%[2]s"; }; };
zone "10.in-addr.arpa" { type primary; file "reverse"; allow-update { key "%[2]s"; }; };
`, s.dir, keyName)}
		}}
	env := func(s setup) []string { return []string{"KEA_PIDFILE_DIR=" + s.dir, "KEA_LOCKFILE_DIR=" + s.dir} }
	d2 := kind{name: "D2-names", program: "kea-dhcp-ddns", env: env,
		args: func(s setup) []string { return []string{"-c", filepath.Join(s.dir, "d2.json")} },
		files: func(s setup) map[string]string {
			domain := func(zone string) string {
				return fmt.Sprintf(`{"ddns-domains": [{"name": "%s", "key-name": "%s", "dns-servers": [{"ip-address": "10.0.0.1", "port": %d}]}]}`, zone, keyName, updates)
			}
			return map[string]string{"d2.json": fmt.Sprintf(`{"DhcpDdns": {"ip-address": "127.0.0.1", "port": %d, "dns-server-timeout": 1000, "ncr-protocol": "UDP", "ncr-format": "JSON",
 "tsig-keys": [{"name": "%s", "algorithm": "HMAC-SHA256", "secret": "%s"}],
 "forward-ddns": %s,
 "reverse-ddns": %s,
 "loggers": [{"name": "kea-dhcp-ddns", "severity": "ERROR", "output_options": [{"output": "stderr"}]}]}}
`, d2Port, keyName, secret, domain(nameZone), domain(nameReverse))}
		}}
	_, kea, _ := b.dhcpKinds()
	kea.files = func(s setup) map[string]string {
		return map[string]string{"kea.json": fmt.Sprintf(`{"Dhcp4": {
  "interfaces-config": {"interfaces": ["%s"]},
  "lease-database": {"type": "memfile", "persist": true, "name": "%s/leases.csv"},
  "valid-lifetime": 7200, "renew-timer": 3600, "rebind-timer": 6300,
  "multi-threading": {"enable-multi-threading": false},
  "dhcp-ddns": {"enable-updates": true, "server-ip": "127.0.0.1", "server-port": %d, "ncr-protocol": "UDP", "ncr-format": "JSON", "max-queue-size": 1024},
  "ddns-send-updates": true, "ddns-qualifying-suffix": "%s", "ddns-override-client-update": true, "ddns-override-no-update": true,
  "ddns-replace-client-name": "never",
  "subnet4": [{"id": 1, "subnet": "10.0.0.0/8", "pools": [{"pool": "%s"}],
    "option-data": [{"name": "routers", "data": "10.0.0.1"}, {"name": "domain-name-servers", "data": "10.0.0.1"}]}],
  "loggers": [{"name": "kea-dhcp4", "severity": "ERROR", "output_options": [{"output": "stderr"}]}]
}}
`, lab.Link, s.dir, d2Port, nameZone, dhcpPool)}
	}
	return []nameStack{
		{"coredhcp + coredns", []kind{coredns, coredhcp}, true},
		{"Kea + D2 + BIND", []kind{named, d2, kea}, false},
	}
}

// startStack starts the servers of a stack on new directories.
func (b *bench) startStack(ctx context.Context, st nameStack) (_ *runningStack, err error) {
	r := &runningStack{nameStack: st, dns: netip.AddrPortFrom(dhcpServer.Addr(), dnsPort), from: b.net.Client}
	defer func() {
		if err != nil {
			r.kill()
		}
	}()
	for i, k := range st.kinds {
		s, err := b.prepare(k, setup{port: dhcpPort})
		if err != nil {
			return nil, err
		}
		if i == len(st.kinds)-1 {
			if err := b.launchDHCP(ctx, s); err != nil {
				return nil, err
			}
			r.servers = append(r.servers, s)
			break
		}
		r.servers = append(r.servers, s)
		if i == 0 {
			if err := r.startDNS(ctx, b); err != nil {
				return nil, err
			}
			continue
		}
		if s.Process, err = b.net.Start(b.net.Server, s.command); err != nil {
			return nil, err
		}
		time.Sleep(time.Second) // D2 says nothing when it listens
	}
	if st.admin {
		r.admin = netip.AddrPortFrom(dhcpServer.Addr(), nameAdmin)
	}
	return r, nil
}

// startDNS starts the name server, and waits until it answers.
func (s *runningStack) startDNS(ctx context.Context, b *bench) (err error) {
	d := s.servers[0]
	if d.Process, err = b.net.Start(b.net.Server, d.command); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	r := b.net.Client.Resolver(s.dns)
	defer func() { _ = r.Close() }() // nothing is asked any more
	if _, _, err := r.Await(ctx, nameZone, dns.TypeSOA, lab.Present); err != nil {
		return fmt.Errorf("waiting for %s: %w\n%s", d.Name, err, d.Tail(10))
	}
	return nil
}

func (s *runningStack) kill() {
	for _, x := range s.servers {
		if x.Process != nil {
			x.Kill()
		}
	}
}

// cpu is what all servers used.
func (s *runningStack) cpu() (all time.Duration) {
	for _, x := range s.servers {
		all += cpuOf(x.PID())
	}
	return all
}

// metrics is the page of the admin address.
func (s *runningStack) metrics(ctx context.Context) (string, error) {
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(context.Context, string, string) (net.Conn, error) {
		return s.from.Dial("tcp", s.admin)
	}}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.admin.String()+"/metrics", http.NoBody)
	if err != nil {
		return "", err
	}
	resp, err := client.Do(req)
	if err != nil {
		return "", err
	}
	text, err := io.ReadAll(resp.Body)
	return string(text), errors.Join(err, resp.Body.Close())
}

// nameHub is a relay with clients of which each waits for its own answers.
type nameHub struct {
	exchangeLoad
	udp     *net.UDPConn
	mu      sync.Mutex
	waiting map[uint32]chan []byte // by transaction
}

func (b *bench) newNameHub() (*nameHub, error) {
	h := &nameHub{exchangeLoad: b.load(), waiting: make(map[uint32]chan []byte)}
	h.named = true
	err := h.from.Do(func() (err error) {
		h.udp, err = net.ListenUDP("udp4", net.UDPAddrFromAddrPort(h.relay))
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("opening the relay's socket: %w", err)
	}
	go h.receive()
	return h, nil
}

func (h *nameHub) close() { _ = h.udp.Close() } // receive ends with it

func (h *nameHub) receive() {
	buf := make([]byte, 2048)
	for {
		n, err := h.udp.Read(buf)
		if err != nil {
			return
		}
		if n < offOptions {
			continue
		}
		h.mu.Lock()
		c := h.waiting[binary.BigEndian.Uint32(buf[offXID:])]
		h.mu.Unlock()
		if c != nil {
			select {
			case c <- append([]byte(nil), buf[:n]...):
			default:
			}
		}
	}
}

// exchange sends a message of the n-th client, again if it is not answered, and returns the answer.
func (h *nameHub) exchange(ctx context.Context, n int, messageType byte, requested, serverID []byte) ([]byte, error) {
	c := make(chan []byte, 1)
	h.mu.Lock()
	h.waiting[uint32(n)] = c
	h.mu.Unlock()
	m := h.message(make([]byte, 0, messageSize), n, messageType, requested, serverID)
	for range 3 {
		if _, err := h.udp.WriteToUDPAddrPort(m, h.to); err != nil {
			return nil, err
		}
		select {
		case answer := <-c:
			return answer, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(time.Second):
		}
	}
	return nil, errors.New("no DHCP answer")
}

// lease takes the n-th client through DHCP, and says how long after the ACK its name and its address were known.
func (h *nameHub) lease(ctx context.Context, a *asker, n int) (forward, reverse time.Duration, err error) {
	offer, err := h.exchange(ctx, n, 1, nil, nil)
	if err != nil {
		return 0, 0, err
	}
	_, serverID := answerOf(offer[offOptions:])
	ack, err := h.exchange(ctx, n, 3, offer[offYiaddr:offYiaddr+4], serverID)
	if err != nil {
		return 0, 0, err
	}
	begin := time.Now()
	if t, _ := answerOf(ack[offOptions:]); t != 5 {
		return 0, 0, fmt.Errorf("message type %d", t)
	}
	address, _ := netip.AddrFromSlice(ack[offYiaddr : offYiaddr+4])
	name := clientName(n) + "." + nameZone
	there, err := a.await(ctx, name, dns.TypeA, isAddress(address))
	if err != nil {
		return 0, 0, err
	}
	pointer, err := dns.ReverseAddr(address.String())
	if err != nil {
		return 0, 0, err
	}
	back, err := a.await(ctx, pointer, dns.TypePTR, isPointer(name))
	return there.Sub(begin), back.Sub(begin), err
}
