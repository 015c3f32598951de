// Package tsigkey reads and writes the TSIG key files (RFC 8945) that a DNS
// server and its update clients share.
//
// CoreDNS, the DHCP server and the command-line tools all read one file, so the
// grammar is not this package's to choose: it is that of CoreDNS's `tsig`
// plugin, which takes the named.conf form with one statement a line. What that
// plugin loads, this package loads, with the same key names and secrets; where
// the plugin refuses, the error here names the file and line and says what to
// write instead. It is stricter in one respect only: a key that can never sign
// anything (its name is not a domain name, its secret is not base64) is refused
// here, while CoreDNS would load it and fail every message.
//
// A secret never prints. A Key formats, logs and marshals as its name and
// algorithm, whatever the verb or handler, and the secret is kept where
// reflection does not reach. Only Secret and WriteTo give it away.
package tsigkey

import (
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"

	"github.com/miekg/dns"
)

// DefaultAlgorithm is the algorithm of a key whose statement names none.
const DefaultAlgorithm = dns.HmacSHA256

// algorithms are those that a Key may sign with (RFC 8945 section 6). HMAC-MD5
// and HMAC-SHA1 are left out: the RFC advises against both.
var algorithms = []string{dns.HmacSHA224, dns.HmacSHA256, dns.HmacSHA384, dns.HmacSHA512}

// Key is one TSIG key. The zero Key means "no key".
type Key struct {
	Name      string // canonical: lower case, trailing dot
	Algorithm string // canonical domain name, such as "hmac-sha256."

	// A closure, so that neither fmt nor a reflecting dumper prints the secret,
	// not even where the Key is an unexported field of something else.
	secret func() string
	origin string // "file:line" of the statement, "" for a generated key
}

// New returns the key with this name, algorithm and base64 secret. The
// algorithm may be written with or without the trailing dot; empty means
// DefaultAlgorithm. New refuses what can never sign: a name that is no domain
// name, an unsupported algorithm, a secret that is not base64.
func New(name, algorithm, secret string) (Key, error) {
	k := Key{Name: canonical(name), Algorithm: canonicalAlgorithm(algorithm)}
	if err := checkName(k.Name); err != nil {
		return Key{}, err
	}
	if err := checkSecret(secret); err != nil {
		return Key{}, fmt.Errorf("key %q: %w", k.Name, err)
	}
	k.secret = func() string { return secret }
	if err := k.Usable(); err != nil {
		return Key{}, err
	}
	return k, nil
}

// Generate returns a new key for hmac-sha256 with 256 random bits. The name is
// a domain name of letters, digits, hyphens and underscores, so that every
// program that reads key files can read it.
func Generate(name string) (Key, error) {
	if name == "" {
		return Key{}, fmt.Errorf("a key needs a name")
	}
	for _, r := range name {
		if !strings.ContainsRune("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.", r) {
			return Key{}, fmt.Errorf("key name %q: want letters, digits, '-', '_' and '.'", name)
		}
	}
	bits := make([]byte, 32)
	if _, err := rand.Read(bits); err != nil {
		return Key{}, fmt.Errorf("generating key %q: %w", name, err)
	}
	return New(name, DefaultAlgorithm, base64.StdEncoding.EncodeToString(bits))
}

// Secret returns the shared secret in base64, for a TSIG signer alone.
func (k Key) Secret() string {
	if k.secret == nil {
		return ""
	}
	return k.secret()
}

// Usable reports why the key cannot sign, or nil. CoreDNS ignores the algorithm
// of a key statement, so a file may hold keys that it accepts and that this
// package will not sign with.
func (k Key) Usable() error {
	if slices.Contains(algorithms, k.Algorithm) {
		return nil
	}
	where := ""
	if k.origin != "" {
		where = k.origin + ": "
	}
	return fmt.Errorf("%skey %q: algorithm %q is not supported, want hmac-sha256, hmac-sha384 or hmac-sha512",
		where, k.Name, strings.TrimSuffix(k.Algorithm, "."))
}

// Find returns the key of that name, which may be written in any case and
// without its trailing dot, if it can sign.
func Find(keys []Key, name string) (Key, error) {
	want := canonical(name)
	have := make([]string, 0, len(keys))
	for _, k := range keys {
		if k.Name == want {
			return k, k.Usable()
		}
		have = append(have, k.Name)
	}
	if len(have) == 0 {
		return Key{}, fmt.Errorf("no key %q: there are no keys", want)
	}
	return Key{}, fmt.Errorf("no key %q among %s", want, strings.Join(have, ", "))
}

// String names the key and its algorithm; it never shows the secret.
func (k Key) String() string {
	if k.Name == "" {
		return "no key"
	}
	return k.Name + " (" + strings.TrimSuffix(k.Algorithm, ".") + ")"
}

// GoString is String: the secret stays out of %#v as well.
func (k Key) GoString() string { return "tsigkey.Key(" + k.String() + ")" }

// Format writes String for every verb.
func (k Key) Format(s fmt.State, verb rune) {
	if verb == 'v' && s.Flag('#') {
		_, _ = io.WriteString(s, k.GoString())
		return
	}
	_, _ = io.WriteString(s, k.String())
}

// LogValue logs String.
func (k Key) LogValue() slog.Value { return slog.StringValue(k.String()) }

// MarshalText gives String, so that JSON, YAML and XML show no secret.
func (k Key) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// canonical is how CoreDNS normalizes a key's name.
func canonical(name string) string { return strings.ToLower(dns.Fqdn(name)) }

func canonicalAlgorithm(a string) string {
	if a == "" {
		return DefaultAlgorithm
	}
	return canonical(a)
}

// checkName refuses a name that no message can carry: a DNS server looks its
// keys up by the name as it unpacks it from the wire.
func checkName(name string) error {
	wire := make([]byte, 256)
	n, err := dns.PackDomainName(name, wire, 0, nil, false)
	if err != nil {
		return fmt.Errorf("key name %q is not a domain name: %w", name, err)
	}
	back, _, err := dns.UnpackDomainName(wire[:n], 0)
	if err != nil {
		return fmt.Errorf("key name %q is not a domain name: %w", name, err)
	}
	if back != name {
		return fmt.Errorf("key name %q can never match: on the wire it is %q", name, back)
	}
	if name == "." {
		return fmt.Errorf("key name %q is the root", name)
	}
	return nil
}

// checkSecret must not quote the secret.
func checkSecret(secret string) error {
	if secret == "" {
		return fmt.Errorf("the secret is empty")
	}
	raw, err := base64.StdEncoding.DecodeString(secret)
	if err != nil {
		return fmt.Errorf("the secret is not base64: %w", err)
	}
	if len(raw) == 0 {
		return fmt.Errorf("the secret is empty")
	}
	return nil
}

// Interfaces that keep a secret from being printed.
var (
	_ fmt.Stringer   = Key{}
	_ fmt.GoStringer = Key{}
	_ fmt.Formatter  = Key{}
	_ slog.LogValuer = Key{}
	_ io.WriterTo    = Key{}
)
