package tsigkey

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

func TestSecretNeverPrints(t *testing.T) {
	k, err := New("dhcp.example.org", "hmac-sha256", secretA)
	if err != nil {
		t.Fatal(err)
	}
	type holder struct {
		Public  Key
		private Key
		list    []Key
		pointer *Key
	}
	h := holder{k, k, []Key{k}, &k}
	var out bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%p", "%T"} {
		for _, v := range []any{k, &k, h, &h, []Key{k}, map[string]Key{"a": k}} {
			fmt.Fprintf(&out, verb+"\n", v)
		}
	}
	for _, handler := range []slog.Handler{slog.NewTextHandler(&out, nil), slog.NewJSONHandler(&out, nil)} {
		slog.New(handler).Info("message", "key", k, "pointer", &k, "holder", h, "error", fmt.Errorf("with %v", k))
	}
	text, err := json.Marshal(map[string]any{"key": k, "holder": h})
	if err != nil {
		t.Fatal(err)
	}
	out.Write(text)
	if err := k.Usable(); err != nil {
		t.Error(err)
	}
	raw, _ := base64.StdEncoding.DecodeString(secretA)
	for _, secret := range []string{secretA, string(raw), fmt.Sprintf("%x", secretA), fmt.Sprintf("%X", secretA), fmt.Sprintf("%d", []byte(secretA))} {
		if strings.Contains(out.String(), secret) {
			t.Errorf("the secret is printed:\n%s", out.String())
		}
	}
	if got := fmt.Sprint(k); got != "dhcp.example.org. (hmac-sha256)" {
		t.Errorf("a key prints as %q", got)
	}
	if got := fmt.Sprint(Key{}); got != "no key" {
		t.Errorf("the zero key prints as %q", got)
	}
}

func TestNew(t *testing.T) {
	for _, tt := range []struct {
		name, key, algorithm, secret, want string
	}{
		{"default algorithm", "A.example.org", "", secretA, ""},
		{"sha512", "a", "hmac-sha512.", secretA, ""},
		{"md5", "a", "hmac-md5.sig-alg.reg.int.", secretA, "not supported"},
		{"sha1", "a", "hmac-sha1", secretA, "not supported"},
		{"unknown", "a", "sha256", secretA, "not supported"},
		{"no name", "", "", secretA, "root"},
		{"bad name", "a..b", "", secretA, "not a domain name"},
		{"bad secret", "a", "", "%", "not base64"},
		{"no secret", "a", "", "", "empty"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			k, err := New(tt.key, tt.algorithm, tt.secret)
			if tt.want == "" {
				if err != nil || k.Secret() != tt.secret || k.Name != strings.ToLower(tt.key)+"." {
					t.Errorf("got %v, %v", k, err)
				}
			} else if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %s", err, tt.want)
			}
		})
	}
}

func TestFind(t *testing.T) {
	keys, err := Parse("tsig.keys", strings.NewReader("key a.example.org {\nsecret "+secretA+"\n}\nkey old {\nalgorithm hmac-md5;\nsecret "+secretB+"\n}"))
	if err != nil {
		t.Fatal(err)
	}
	if k, err := Find(keys, "A.Example.org"); err != nil || k.Secret() != secretA {
		t.Errorf("got %v, %v", k, err)
	}
	for name, want := range map[string]string{
		"b.example.org": `no key "b.example.org." among a.example.org., old.`,
		"old.":          `tsig.keys:4: key "old.": algorithm "hmac-md5" is not supported`,
	} {
		if _, err := Find(keys, name); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Find(%s): %v, want %s", name, err, want)
		}
	}
	if _, err := Find(nil, "a"); err == nil {
		t.Error("found a key among none")
	}
}

func TestGenerate(t *testing.T) {
	a, err := Generate("DHCP.example.org")
	if err != nil {
		t.Fatal(err)
	}
	b, err := Generate("DHCP.example.org")
	if err != nil {
		t.Fatal(err)
	}
	if a.Secret() == b.Secret() {
		t.Error("the same secret twice")
	}
	if raw, err := base64.StdEncoding.DecodeString(a.Secret()); err != nil || len(raw) != 32 {
		t.Errorf("secret of %d octets, %v", len(raw), err)
	}
	if a.Name != "dhcp.example.org." || a.Algorithm != dns.HmacSHA256 {
		t.Errorf("got %v", a)
	}
	for _, name := range []string{"", "a b", "a\"", "a{", "a..b", "ä.example.org", ".", strings.Repeat("a", 64), "a;b", "a\\.b"} {
		if k, err := Generate(name); err == nil {
			t.Errorf("Generate(%q) = %v", name, k)
		}
	}
	if _, err := (Key{}).WriteTo(io.Discard); err == nil {
		t.Error("the zero key was written")
	}
}

// TestBINDReadsGenerated gives a generated file to nsupdate, which reads its key
// file before it reads commands.
func TestBINDReadsGenerated(t *testing.T) {
	nsupdate, err := exec.LookPath("nsupdate")
	if err != nil {
		t.Skip("nsupdate is not installed (Debian package bind9-dnsutils)")
	}
	for _, algorithm := range []string{"hmac-sha224", "hmac-sha256", "hmac-sha384", "hmac-sha512"} {
		t.Run(algorithm, func(t *testing.T) {
			k, err := New("dhcp_1.example.org", algorithm, secretA)
			if err != nil {
				t.Fatal(err)
			}
			var b bytes.Buffer
			if _, err := k.WriteTo(&b); err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(t.TempDir(), "key")
			if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
				t.Fatal(err)
			}
			cmd := exec.Command(nsupdate, "-k", path)
			cmd.Stdin = strings.NewReader("quit\n")
			if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
				t.Errorf("nsupdate: %v: %s", err, out)
			}
		})
	}
}
