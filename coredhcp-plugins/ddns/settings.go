package ddns

import (
	"github.com/miekg/dns"

	"github.com/dicomnam/dicomnam/plugin/pkg/tsigkey"
)

// Settings are what the arguments of the plugin say, for whoever compares configurations.
type Settings struct {
	Keys     string // path of the key file
	Database string // "" where leases gives the addresses
	a        *arguments
}

// ParseSettings reads the arguments as the plugin does. It opens no file.
func ParseSettings(args []string) (*Settings, error) {
	a, err := parse(args)
	if err != nil {
		return nil, err
	}
	return &Settings{a.keys, a.database, a}, nil
}

// LoadKeys reads the keys that are named from the key file. One that it does not have is an error.
func (s *Settings) LoadKeys() ([]tsigkey.Key, error) {
	list, err := s.a.zoneKeys()
	keys := make([]tsigkey.Key, len(list))
	for i := range list {
		keys[i] = list[i].Key
	}
	return keys, err
}

// Servers are the servers that updates of a zone are sent to, as HOST:PORT; nil where the zone's SOA record tells.
func (s *Settings) Servers(zone string) []string {
	var servers []string
	longest := -1
	for _, r := range s.a.routes {
		if n := dns.CountLabel(r.Zone); n > longest && dns.IsSubDomain(r.Zone, zone) {
			servers, longest = r.Servers, n
		}
	}
	return servers
}

// Key is the name of the key that updates of a zone are signed with, "" if there is none.
func (s *Settings) Key(zone string) string {
	name := ""
	longest := -1
	for _, k := range s.a.keyNames {
		if n := dns.CountLabel(k.zone); n > longest && dns.IsSubDomain(k.zone, zone) {
			name, longest = k.key, n
		}
	}
	return name
}
