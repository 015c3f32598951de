package site

import (
	"net/netip"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/dicomnam/dicomnam/plugin/pkg/site/internal/strictyaml"
)

// Limits of RFC 1035 section 2.3.4, in octets. A name is at most 253 characters long without its last dot.
const (
	maxLabel = 63
	maxName  = 253
	// maxDomain leaves room for the longest name of a service, such as INSTANCE._dicomweb-tls._tcp with 63 octets of INSTANCE.
	maxDomain = 160
)

// canonicalName returns v in lower case and with the trailing dot, if it is a name of LDH labels (RFC 1123 section 2.1).
func canonicalName(v string) (string, bool) {
	v = strings.TrimSuffix(v, ".")
	if v == "" || len(v) > maxName {
		return "", false
	}
	for label := range strings.SplitSeq(v, ".") {
		if !hostLabel(label) {
			return "", false
		}
	}
	return strings.ToLower(v) + ".", true
}

// hostLabel reports whether v is one label of a host name: letters, digits, and hyphens inside.
func hostLabel(v string) bool {
	if v == "" || len(v) > maxLabel || v[0] == '-' || v[len(v)-1] == '-' {
		return false
	}
	for i := range len(v) {
		if c := v[i]; !alphanumeric(c) && c != '-' {
			return false
		}
	}
	return true
}

func alphanumeric(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
}

// below reports whether the canonical name is the canonical domain or a name below it.
func below(name, domain string) bool {
	return domain == "." || name == domain || strings.HasSuffix(name, "."+domain)
}

// show returns a canonical name as people write it, without the trailing dot.
func show(name string) string { return strings.TrimSuffix(name, ".") }

const expectedHost = "a host name of letters, digits and hyphens such as ct1"

// hostname reads the name of a host of this site: relative to the domain, or complete if it is below the domain already or ends in a
// dot. It returns "" after it has reported what is wrong, and for a nil n.
func (p *parser) hostname(n *yaml.Node, key string) string {
	if n == nil {
		return ""
	}
	v, ok := p.Scalar(n, key, expectedHost)
	if !ok {
		return ""
	}
	name, ok := canonicalName(v)
	if _, err := netip.ParseAddr(v); !ok || err == nil { // an address, to which no name refers
		p.Expected(n, key, expectedHost)
		return ""
	}
	domain := p.site.Domain
	if strings.HasSuffix(v, ".") || below(name, domain) {
		return name
	}
	full := name + domain
	if lastLabel(name) == lastLabel(domain) {
		p.Errorf(n, "%s: found %s, which would mean %s; expected a name below %s, or one that ends in a dot because it is complete",
			key, strictyaml.Quote(v), show(full), show(domain))
		return ""
	}
	if len(full) > maxName+1 {
		p.Errorf(n, "%s: found %s, which is longer than %d characters with the domain %s", key, strictyaml.Quote(v), maxName, show(domain))
		return ""
	}
	if strings.Count(name, ".") > 2 {
		p.warn(n, "%s: %s means %s; if it is complete, end it in a dot", key, strictyaml.Quote(v), show(full))
	}
	return full
}

func lastLabel(name string) string {
	name = show(name)
	return name[strings.LastIndexByte(name, '.')+1:]
}

// anyHost is like hostname, for hosts that often are elsewhere: here every name with a dot in it is complete.
func (p *parser) anyHost(n *yaml.Node, key string) string {
	if n == nil {
		return ""
	}
	v, ok := p.Scalar(n, key, expectedHost)
	if !ok {
		return ""
	}
	name, ok := completeName(v, p.site.Domain)
	if !ok || allDigits(lastLabel(name)) {
		p.Expected(n, key, expectedHost+" or ntp.example.org")
		return ""
	}
	return name
}

// completeName returns v as a canonical name: relative to domain if it is a single label, complete otherwise.
func completeName(v, domain string) (string, bool) {
	name, ok := canonicalName(v)
	if !ok {
		return "", false
	}
	if !strings.Contains(v, ".") {
		name += domain
	}
	return name, len(name) <= maxName+1
}

// mailbox returns v, a mail address or a name already, as a domain name (RFC 1035 section 8: the dots of the local part are escaped).
func mailbox(v, domain string) (string, bool) {
	at := strings.LastIndexByte(v, '@')
	if at < 0 {
		return completeName(v, domain)
	}
	local, host := v[:at], v[at+1:]
	name, ok := canonicalName(host)
	if !ok || local == "" || len(local) > maxLabel {
		return "", false
	}
	for i := range len(local) {
		if c := local[i]; !alphanumeric(c) && !strings.ContainsRune(".-_+", rune(c)) {
			return "", false
		}
	}
	return strings.ReplaceAll(strings.ToLower(local), ".", `\.`) + "." + name, true
}

// serviceName reports whether v is a service name by RFC 6335 section 5.1.
func serviceName(v string) bool {
	if len(v) > 15 || !hostLabel(v) || strings.Contains(v, "--") {
		return false
	}
	return strings.ContainsFunc(v, func(r rune) bool { return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' })
}

// aeTitle returns v without the spaces at its ends, which are not significant, if it is a value of VR AE (PS3.5 section 6.2).
func aeTitle(v string) (string, bool) {
	v = strings.Trim(v, " ")
	if v == "" || len(v) > 16 {
		return "", false
	}
	for i := range len(v) {
		if c := v[i]; c < 0x20 || c > 0x7e || c == '\\' {
			return "", false
		}
	}
	return v, true
}

// txtKey returns the key of a "key=value" string (RFC 6763 section 6.4), or "" if it is not valid.
func txtKey(v string) string {
	key, _, _ := strings.Cut(v, "=")
	for i := range len(key) {
		if key[i] < 0x20 || key[i] > 0x7e {
			return ""
		}
	}
	return key
}

// fold returns v with ASCII letters in lower case, which is how DNS compares labels.
func fold(v string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'A' && r <= 'Z' {
			return r + 'a' - 'A'
		}
		return r
	}, v)
}
