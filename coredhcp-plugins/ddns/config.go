package ddns

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/miekg/dns"

	"github.com/dicomnam/dicomnam/coredhcp-plugins/pkg/nameupdate"
	"github.com/dicomnam/dicomnam/coredhcp-plugins/server"
	"github.com/dicomnam/dicomnam/plugin/pkg/tsigkey"
)

const usage = "ddns: site=PATH keys=PATH key=[ZONE=]NAME... [server=[ZONE=]HOST[:PORT][,...]...] [resolver=HOST[:PORT][,...]] [min-ttl=TIME] [max-ttl=TIME] [database=DIR]"

// maxServers bounds the servers that stand for one zone.
const maxServers = 8

// arguments are those of the plugin, before any file is read.
type arguments struct {
	site, keys, database string
	routes               []nameupdate.Route
	keyNames             []zoneKey
	resolvers            []string
	minTTL, maxTTL       time.Duration
}

// longestTTL bounds the TTL of records: longer ones are not kept by resolvers (RFC 8767 section 4).
const longestTTL = 7 * 24 * time.Hour

// zoneKey is the name of the key for a zone and those below it.
type zoneKey struct{ zone, key string }

// parse reads the arguments. `server` and `key` may stand several times, each for another zone.
func parse(args []string) (*arguments, error) {
	var a arguments
	var rest []string
	for _, arg := range args {
		name, value, _ := strings.Cut(arg, "=")
		if name != "server" && name != "key" || value == "" {
			rest = append(rest, arg)
			continue
		}
		zone := "."
		if left, right, found := strings.Cut(value, "="); found {
			if _, ok := dns.IsDomainName(left); !ok || left == "" || right == "" {
				return nil, fmt.Errorf("%s: expected %s=ZONE=VALUE with the name of a zone, as in %s=2.0.192.in-addr.arpa=VALUE", arg, name, name)
			}
			zone, value = dns.CanonicalName(left), right
		}
		if name == "key" {
			if slices.ContainsFunc(a.keyNames, func(k zoneKey) bool { return k.zone == zone }) {
				return nil, fmt.Errorf("%s: there is another key for the same zone", arg)
			}
			a.keyNames = append(a.keyNames, zoneKey{zone, value})
			continue
		}
		if slices.ContainsFunc(a.routes, func(r nameupdate.Route) bool { return r.Zone == zone }) {
			return nil, fmt.Errorf("%s: there are other servers for the same zone; put all of them there, with commas between", arg)
		}
		servers, err := hosts(value)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", arg, err)
		}
		a.routes = append(a.routes, nameupdate.Route{Zone: zone, Servers: servers})
	}
	values, err := server.Args(rest, "site", "server", "keys", "key", "resolver", "min-ttl", "max-ttl", "database")
	if err != nil {
		return nil, err
	}
	a.site, a.keys, a.database = values["site"], values["keys"], values["database"]
	switch {
	case a.site == "":
		return nil, errors.New("site= is missing: expected " + usage)
	case a.keys == "":
		return nil, errors.New("keys= is missing: expected " + usage)
	case len(a.keyNames) == 0:
		return nil, errors.New("key= is missing: expected " + usage)
	}
	if v := values["resolver"]; v != "" {
		if a.resolvers, err = hosts(v); err != nil {
			return nil, fmt.Errorf("resolver=%s: %w", v, err)
		}
	}
	a.minTTL, a.maxTTL = nameupdate.MinTTL, nameupdate.MaxTTL
	for _, bound := range []struct {
		name string
		d    *time.Duration
	}{{"min-ttl", &a.minTTL}, {"max-ttl", &a.maxTTL}} {
		v, given := values[bound.name]
		if !given {
			continue
		}
		d, err := time.ParseDuration(v)
		if err != nil || d < time.Second || d > longestTTL || d%time.Second != 0 {
			return nil, fmt.Errorf("%s=%s: expected whole seconds from 1s to %s, as in %[1]s=5m", bound.name, v, longestTTL)
		}
		*bound.d = d
	}
	_, least := values["min-ttl"]
	_, most := values["max-ttl"]
	switch {
	case least && most && a.minTTL > a.maxTTL:
		return nil, fmt.Errorf("min-ttl=%s max-ttl=%s: expected a min-ttl of at most max-ttl", values["min-ttl"], values["max-ttl"])
	case least: // what is given moves the default of the other
		a.maxTTL = max(a.maxTTL, a.minTTL)
	default:
		a.minTTL = min(a.minTTL, a.maxTTL)
	}
	return &a, nil
}

// hosts reads HOST[:PORT],... and fills in the port.
func hosts(list string) ([]string, error) {
	var out []string
	for h := range strings.SplitSeq(list, ",") {
		host, port, err := net.SplitHostPort(h)
		if err != nil { // there is no port
			host, port = strings.Trim(h, "[]"), "53"
		}
		if a, aerr := netip.ParseAddr(host); aerr == nil {
			host = a.Unmap().String()
		} else if host != "" && strings.Trim(host, "0123456789.") == "" {
			return nil, fmt.Errorf("%q: %q is no address: expected four numbers from 0 to 255, as in 192.0.2.2", h, host)
		} else if _, ok := dns.IsDomainName(host); !ok || host == "" || strings.ContainsAny(host, ":[]/ ") {
			return nil, fmt.Errorf("%q: expected HOST or HOST:PORT, as in 192.0.2.2:53", h)
		}
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return nil, fmt.Errorf("%q: port %q: expected HOST:PORT with a port from 1 to 65535", h, port)
		}
		addr := net.JoinHostPort(host, port)
		if slices.Contains(out, addr) {
			return nil, fmt.Errorf("%s is given twice", addr)
		}
		out = append(out, addr)
	}
	if len(out) > maxServers {
		return nil, fmt.Errorf("%d servers: expected at most %d", len(out), maxServers)
	}
	return out, nil
}

// zoneKeys finds the keys of the arguments in the key file.
func (a *arguments) zoneKeys() ([]nameupdate.ZoneKey, error) {
	keys, err := tsigkey.Load(a.keys)
	if err != nil {
		return nil, err
	}
	var list []nameupdate.ZoneKey
	for _, k := range a.keyNames {
		key, err := tsigkey.Find(keys, k.key)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", a.keys, err)
		}
		list = append(list, nameupdate.ZoneKey{Zone: k.zone, Key: key})
	}
	return list, nil
}

// everywhere says whether there is a server for every zone.
func (a *arguments) everywhere() bool {
	return slices.ContainsFunc(a.routes, func(r nameupdate.Route) bool { return r.Zone == "." })
}
