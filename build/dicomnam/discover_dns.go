package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/miekg/dns"
)

const (
	queryTimeout = 2 * time.Second // for each try
	queryTries   = 3
	udpOctets    = 1232 // fits into every packet; what does not fit comes by TCP
)

// asker asks name servers, which may be resolvers.
type asker struct {
	servers []string // host:port, the first that answers counts
	udp     *dns.Client
	tcp     *dns.Client
}

// newAsker asks the server, HOST or HOST:PORT, or those of /etc/resolv.conf
// where it is "".
func newAsker(ctx context.Context, server string) (*asker, error) {
	a := &asker{
		udp: &dns.Client{Net: "udp", Timeout: queryTimeout},
		tcp: &dns.Client{Net: "tcp", Timeout: queryTimeout},
	}
	if server == "" {
		const path = "/etc/resolv.conf"
		config, err := dns.ClientConfigFromFile(path)
		if err != nil {
			return nil, fmt.Errorf("%s: %w; name a server with --server", path, err)
		}
		for _, s := range config.Servers {
			a.servers = append(a.servers, net.JoinHostPort(s, config.Port))
		}
		if len(a.servers) == 0 {
			return nil, fmt.Errorf("%s names no server; name one with --server", path)
		}
		return a, nil
	}
	host, port, err := splitServer(server)
	if err != nil {
		return nil, err
	}
	if _, err := netip.ParseAddr(host); err != nil {
		addresses, err := net.DefaultResolver.LookupHost(ctx, host)
		if err != nil {
			return nil, fmt.Errorf("server %s: %w", host, err)
		}
		host = addresses[0]
	}
	a.servers = []string{net.JoinHostPort(host, port)}
	return a, nil
}

// splitServer reads HOST, HOST:PORT, or an IPv6 address, in brackets or not.
func splitServer(server string) (host, port string, err error) {
	if a, err := netip.ParseAddr(strings.Trim(server, "[]")); err == nil {
		return a.String(), "53", nil
	}
	host, port = server, "53"
	if strings.Contains(server, ":") {
		if host, port, err = net.SplitHostPort(server); err != nil {
			return "", "", fmt.Errorf("server %q: expected HOST or HOST:PORT, such as 192.0.2.2:53", server)
		}
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 || host == "" {
		return "", "", fmt.Errorf("server %q: expected HOST or HOST:PORT, such as 192.0.2.2:53", server)
	}
	return host, port, nil
}

// answer is what was found at a name.
type answer struct {
	records []dns.RR
	cut     bool // there is more than a message holds
}

// ask returns the records of a type at a name; none is no error.
func (a *asker) ask(ctx context.Context, name string, qtype uint16) (answer, error) {
	q := new(dns.Msg).SetQuestion(name, qtype)
	q.SetEdns0(udpOctets, false)
	var failed error
	for range queryTries {
		for _, server := range a.servers {
			m, err := a.exchange(ctx, q, server)
			if err == nil && m.Rcode != dns.RcodeSuccess && m.Rcode != dns.RcodeNameError {
				err = fmt.Errorf("%s", dns.RcodeToString[m.Rcode])
			}
			if err == nil {
				return answer{m.Answer, m.Truncated}, nil
			}
			if ctx.Err() != nil {
				return answer{}, context.Cause(ctx)
			}
			failed = fmt.Errorf("server %s, asked for %s %s: %w", server, name, dns.TypeToString[qtype], err)
		}
	}
	return answer{}, failed
}

// exchange asks one server, by TCP where the answer does not fit.
func (a *asker) exchange(ctx context.Context, q *dns.Msg, server string) (*dns.Msg, error) {
	m, _, err := a.udp.ExchangeContext(ctx, q, server)
	if err == nil && m.Truncated {
		m, _, err = a.tcp.ExchangeContext(ctx, q, server)
	}
	if err != nil {
		return nil, err
	}
	if m.Id != q.Id || !m.Response || len(m.Question) != 1 || m.Question[0].Qtype != q.Question[0].Qtype ||
		!strings.EqualFold(m.Question[0].Name, q.Question[0].Name) {
		return nil, errors.New("answer to another question")
	}
	return m, nil
}

// addresses returns the addresses of a host, IPv4 first.
func (a *asker) addresses(ctx context.Context, host string) ([]netip.Addr, error) {
	var all []netip.Addr
	for _, qtype := range []uint16{dns.TypeA, dns.TypeAAAA} {
		found, err := a.ask(ctx, host, qtype)
		if err != nil {
			return nil, err
		}
		for _, rr := range found.records {
			var address netip.Addr
			switch rr := rr.(type) {
			case *dns.A:
				address, _ = netip.AddrFromSlice(rr.A)
			case *dns.AAAA:
				address, _ = netip.AddrFromSlice(rr.AAAA)
			}
			if address.IsValid() {
				all = append(all, address.Unmap())
			}
		}
	}
	return all, nil
}

// of returns the records of type T.
func of[T dns.RR](records []dns.RR) []T {
	var all []T
	for _, rr := range records {
		if r, ok := rr.(T); ok {
			all = append(all, r)
		}
	}
	return all
}
