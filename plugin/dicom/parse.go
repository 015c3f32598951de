package dicom

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/dicomnam/dicomnam/plugin/pkg/site"
	"github.com/dicomnam/dicomnam/plugin/pkg/zone"

	"github.com/coredns/caddy"
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/plugin"
	coreparse "github.com/coredns/coredns/plugin/pkg/parse"

	"github.com/miekg/dns"
)

// A config is what one dicom directive says, validated. Paths are absolute or
// relative to the working directory: the root of the server block is applied.
type config struct {
	zones    []string      // canonical, each once, at least one
	seed     string        // zone file; "" if the zones are made from the site file
	database string        // directory; "" for memory only
	backup   *backupConfig // nil: none are made
	rules    rules
	limits   zone.Limits

	sitePath string     // "" without a site file
	site     loadedSite // what stood there when the Corefile was read
	listen   []string   // the hosts that the server block is bound to
}

// syntax has the properties of the directive, and their arguments.
var syntax = []struct{ property, args string }{
	{"site", "PATH"},
	{"file", "PATH"},
	{"database", "PATH"},
	{"backup", "DIR [INTERVAL]"},
	{"allow", "KEY NAME TYPE [TYPE...]"},
	{"max_records", "COUNT"},
	{"max_bytes", "BYTES"},
	{"max_update_records", "COUNT"},
}

// argErr is for a property with too few arguments, too many, or an empty one; and
// for what is none.
func argErr(c *caddy.Controller, property string) error {
	var all []string
	for _, s := range syntax {
		if s.property == property {
			return c.Errf("Wrong argument count, or an empty argument: expected \"%s %s\"", property, s.args)
		}
		all = append(all, s.property)
	}
	return c.Errf("unknown property %q, expected one of %s", property, strings.Join(all, ", "))
}

// parse reads the one dicom directive of a server block. It reads files to
// validate them, and leaves no trace: no file created, nothing running.
func parse(c *caddy.Controller) (*config, error) {
	if !c.Next() {
		return nil, c.ArgErr()
	}
	server := dnsserver.GetConfig(c)
	cfg := &config{listen: server.ListenHosts}
	var err error
	if cfg.zones, err = parseZones(c.RemainingArgs(), c.ServerBlockKeys); err != nil {
		return nil, c.Err(err.Error())
	}

	seen := make(map[string]bool)
	for c.NextBlock() {
		property := c.Val()
		if property != "allow" && seen[property] {
			return nil, c.Errf("%s specified more than once", property)
		}
		seen[property] = true
		args := c.RemainingArgs()
		if c.NextArg() { // a brace is what that leaves
			return nil, c.Errf("%s takes no block", property)
		}
		switch property {
		case "file", "database", "site":
			if len(args) != 1 || args[0] == "" {
				return nil, argErr(c, property)
			}
			path := args[0]
			if !filepath.IsAbs(path) {
				path = filepath.Join(server.Root, path)
			}
			switch property {
			case "file":
				cfg.seed = path
			case "database":
				if cfg.database, err = databasePath(path); err != nil {
					return nil, c.Err(err.Error())
				}
			case "site":
				cfg.sitePath = path
				if cfg.site, err = loadSite(path); err != nil {
					return nil, c.Err(siteError(path, err).Error())
				}
			}

		case "backup":
			if len(args) < 1 || len(args) > 2 || args[0] == "" {
				return nil, argErr(c, property)
			}
			dir := args[0]
			if !filepath.IsAbs(dir) {
				dir = filepath.Join(server.Root, dir)
			}
			if dir, err = filepath.Abs(dir); err == nil {
				cfg.backup, err = parseBackup(dir, args[1:])
			}
			if err != nil {
				return nil, c.Err(err.Error())
			}

		case "max_records", "max_bytes", "max_update_records":
			if len(args) != 1 || args[0] == "" {
				return nil, argErr(c, property)
			}
			n, err := strconv.Atoi(args[0])
			if err != nil || n <= 0 {
				return nil, c.Errf("%s requires a positive integer, not %q", property, args[0])
			}
			switch property {
			case "max_records":
				cfg.limits.Records = n
			case "max_bytes":
				cfg.limits.Bytes = n
			case "max_update_records":
				cfg.limits.UpdateRecords = n
			}

		case "allow":
			r, err := parseRule(args, cfg.zones)
			if err != nil {
				return nil, c.Err(err.Error())
			}
			cfg.rules = append(cfg.rules, r)

		default:
			return nil, argErr(c, property)
		}
	}
	if c.Next() {
		if c.Val() != pluginName {
			return nil, c.Errf("unexpected %q behind the end of %s", c.Val(), pluginName)
		}
		return nil, c.Err(plugin.ErrOnce.Error())
	}
	if err := cfg.validate(); err != nil {
		return nil, c.Err(err.Error())
	}
	return cfg, nil
}

// validate checks what concerns several properties.
func (cfg *config) validate() error {
	if cfg.sitePath == "" {
		if cfg.seed == "" {
			return errors.New("file is required without site")
		}
		if len(cfg.rules) == 0 {
			return errors.New("at least one allow rule is required without site")
		}
	}
	if cfg.backup != nil {
		if err := cfg.backup.check(cfg.database); err != nil {
			return err
		}
	}
	if cfg.database != "" {
		if found, err := cfg.takeover().check(); found || err != nil {
			return err // a database that is there is the authority
		}
	}
	if cfg.seed == "" {
		return nil
	}
	if len(cfg.zones) != 1 {
		return fmt.Errorf("file requires exactly one zone, not %d: %s", len(cfg.zones), strings.Join(cfg.zones, " "))
	}
	// A database that exists is the authority: its seed may have changed or be
	// gone. A seed that will be needed must be right.
	if cfg.database != "" {
		switch files, err := os.ReadDir(cfg.database); {
		case len(files) > 0:
			return nil
		case err != nil && !errors.Is(err, os.ErrNotExist):
			return fmt.Errorf("database: %w", err)
		}
	}
	return checkSeed(cfg.seed, cfg.zones[0], cfg.limits)
}

// databasePath returns path as the one name by which overlapping instances
// know the database.
func databasePath(path string) (string, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return "", fmt.Errorf("database: %w", err)
	}
	return path, nil
}

// parseZones returns the zones of the directive, else those of the server block.
func parseZones(args, serverBlockKeys []string) ([]string, error) {
	tokens := args
	if len(tokens) == 0 {
		tokens = serverBlockKeys // reverse subnets stand there expanded already
	}
	var zones []string
	for _, token := range tokens {
		if err := checkSubnet(token); err != nil {
			return nil, err
		}
		invalid := fmt.Errorf("invalid zone %q: expected a domain name, or a subnet such as 192.0.2.0/24, with blanks between several", token)
		hosts := plugin.Host(token).NormalizeExact()
		if len(hosts) == 0 {
			return nil, invalid
		}
		for _, host := range hosts {
			z := dns.CanonicalName(host)
			if host == "" || !zone.ValidName(z) {
				return nil, invalid
			}
			if !slices.Contains(zones, z) {
				zones = append(zones, z)
			}
		}
	}
	if len(zones) == 0 {
		return nil, errors.New("zone is required")
	}
	return zones, checkExpanded(zones)
}

// checkSubnet refuses a subnet whose reverse zone would not end on an octet.
// Its names live in the zone of its /24 (RFC 1035 section 3.5), and CoreDNS
// would make a zone of each address.
func checkSubnet(token string) error {
	_, host := coreparse.Transport(token)
	_, n, err := net.ParseCIDR(host)
	if err != nil {
		return nil //nolint:nilerr // it is a name
	}
	if ones, bits := n.Mask.Size(); bits == 32 && ones > 24 && ones < 32 {
		n.Mask = net.CIDRMask(24, 32)
		n.IP = n.IP.Mask(n.Mask)
		return fmt.Errorf("a reverse zone ends on an octet: use %s instead of %s", n, host)
	}
	return nil
}

// checkExpanded finds the traces of such a subnet among the names of a server
// block, which CoreDNS has expanded: several zones of one address each in one /24.
func checkExpanded(zones []string) error {
	first := make(map[string]string)
	for _, z := range zones {
		if dns.CountLabel(z) != 6 || !dns.IsSubDomain("in-addr.arpa.", z) {
			continue
		}
		off, _ := dns.NextLabel(z, 0)
		parent := z[off:]
		if other, ok := first[parent]; ok {
			return fmt.Errorf("a reverse zone ends on an octet: use the /24 that is zone %s instead of a longer subnet, which CoreDNS expands to %s, %s and so on", parent, other, z)
		}
		first[parent] = z
	}
	return nil
}

// siteError shows all problems of a site file, one a line.
func siteError(path string, err error) error {
	if problems, ok := errors.AsType[site.Errors](err); ok {
		noun := "errors"
		if len(problems) == 1 {
			noun = "error"
		}
		return fmt.Errorf("site file %q has %d %s:\n%w", path, len(problems), noun, err)
	}
	return fmt.Errorf("site file: %w", err)
}
