package tsigkey

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Secrets of the test keys; they are known to everybody.
const (
	secretA = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
	secretB = "ZmVkY2JhOTg3NjU0MzIxMGZlZGNiYTk4NzY1NDMyMTA="
)

// accepted holds files that CoreDNS's tsig plugin loads, with what it loads.
var accepted = []struct {
	name, file string
	want       []string // name, algorithm, secret of each key
}{
	{"empty file", "", nil},
	{"only blank lines", "\n  \n\t\r\n", nil},
	{"as generated", "key \"dhcp.example.org.\" {\n\talgorithm hmac-sha256;\n\tsecret \"" + secretA + "\";\n};\n", []string{"dhcp.example.org.", "hmac-sha256.", secretA}},
	{"no quotation marks, no semicolons", "key dhcp.example.org {\nalgorithm hmac-sha512\nsecret " + secretA + "\n}\n", []string{"dhcp.example.org.", "hmac-sha512.", secretA}},
	{"brace touches the name", "key dhcp.example.org{\nsecret " + secretA + "\n}", []string{"dhcp.example.org.", "hmac-sha256.", secretA}},
	{"brace touches the quoted name", "key \"dhcp.example.org\"{\nsecret " + secretA + "\n};", []string{"dhcp.example.org.", "hmac-sha256.", secretA}},
	{"brace on the next line is taken for nothing", "key a.example.org.\nsecret " + secretA + "\n};", []string{"a.example.org.", "hmac-sha256.", secretA}},
	{"upper case name", "key DHCP.Example.ORG. {\nsecret " + secretA + "\n};", []string{"dhcp.example.org.", "hmac-sha256.", secretA}},
	{"upper case algorithm", "key a. {\nalgorithm \"HMAC-SHA384.\";\nsecret " + secretA + "\n};", []string{"a.", "hmac-sha384.", secretA}},
	{"no algorithm", "key a {\nsecret " + secretA + ";\n};", []string{"a.", "hmac-sha256.", secretA}},
	{"an algorithm without a value", "key a {\nalgorithm\nsecret " + secretA + ";\n};", []string{"a.", "hmac-sha256.", secretA}},
	{"an algorithm that nobody knows", "key a {\nalgorithm hmac-md5;\nsecret " + secretA + ";\n};", []string{"a.", "hmac-md5.", secretA}},
	{"secret before algorithm", "key a {\nsecret " + secretA + ";\nalgorithm hmac-sha384;\n};", []string{"a.", "hmac-sha384.", secretA}},
	{"the last secret counts", "key a {\nsecret " + secretB + ";\nsecret " + secretA + ";\n};", []string{"a.", "hmac-sha256.", secretA}},
	{"no closing brace at the end", "key a {\nsecret " + secretA + ";", []string{"a.", "hmac-sha256.", secretA}},
	{"a brace apart from its semicolon", "key a {\nsecret " + secretA + " ;\n} ;", []string{"a.", "hmac-sha256.", secretA}},
	{"text after each statement", "key a { one two\nalgorithm hmac-sha256; # strong\nsecret " + secretA + "; // shared\n}; end", []string{"a.", "hmac-sha256.", secretA}},
	{"carriage returns and blank lines", "\r\nkey a {\r\n\r\n  secret \"" + secretA + "\";\r\n};\r\n", []string{"a.", "hmac-sha256.", secretA}},
	{"escaped name", "key a\\.b.example.org {\nsecret " + secretA + "\n};", []string{"a\\.b.example.org.", "hmac-sha256.", secretA}},
	{"two keys", "key b {\nsecret " + secretB + "\n};\nkey a {\nsecret " + secretA + "\n};", []string{"b.", "hmac-sha256.", secretB, "a.", "hmac-sha256.", secretA}},
}

func TestParseAcceptsWhatCoreDNSAccepts(t *testing.T) {
	for _, tt := range accepted {
		t.Run(tt.name, func(t *testing.T) {
			keys, err := Parse("tsig.keys", strings.NewReader(tt.file))
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, k := range keys {
				got = append(got, k.Name, k.Algorithm, k.Secret())
			}
			if strings.Join(got, " ") != strings.Join(tt.want, " ") {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestParseRefusesWithLine(t *testing.T) {
	long := strings.Repeat("x", 70_000)
	for _, tt := range []struct {
		name, file, want string
	}{
		// What CoreDNS refuses.
		{"comment", "# keys\nkey a {\nsecret " + secretA + "\n};", "tsig.keys:1: a comment, which a key file cannot hold, want a line `key NAME {`"},
		{"comment inside", "key a {\n// mine\nsecret " + secretA + "\n};", "tsig.keys:2: a comment"},
		{"another statement", "options {\n};", "tsig.keys:1: unexpected `options`"},
		{"a key in a key", "key a {\nsecret " + secretA + "\nkey b {\n", "tsig.keys:3: unexpected `key` in key \"a.\""},
		{"all in one line", "key a { algorithm hmac-sha256; secret \"" + secretA + "\"; };\n", "tsig.keys:1: key \"a.\" has no secret; what follows the name in line 1 is not read: write one statement a line"},
		{"two in one line each", "key a { secret \"" + secretA + "\"; };\nkey b { secret \"" + secretA + "\"; };\n", "tsig.keys:2: unexpected `key` in key \"a.\", want `algorithm`, `secret` or `};` at the start of a line; what follows the name in line 1"},
		{"brace in a line of its own", "key a\n{\nsecret " + secretA + "\n};", "tsig.keys:2: unexpected text in key"},
		{"no name", "\nkey\n", "tsig.keys:2: want the name of the key"},
		{"brace for a name", "key {\nsecret " + secretA + "\n};", "tsig.keys:1: want the name of the key"},
		{"empty name", "key \"\" {\nsecret " + secretA + "\n};", "tsig.keys:1: want the name of the key"},
		{"no secret", "key a {\nalgorithm hmac-sha256;\n};", "tsig.keys:1: key \"a.\" has no secret"},
		{"end of file in a key", "key a {\n", "tsig.keys:1: key \"a.\" has no secret"},
		{"secret without a value", "key a {\nsecret\n};", "tsig.keys:2: key \"a.\": the secret is empty"},
		{"empty secret", "key a {\nsecret \"\";\n};", "tsig.keys:2: key \"a.\": the secret is empty"},
		{"name twice", "key A {\nsecret " + secretA + "\n};\nkey a. {\nsecret " + secretB + "\n};", "tsig.keys:4: key \"a.\" stands twice, first in line 1"},
		{"byte order mark", "\ufeffkey a {\nsecret " + secretA + "\n};", "tsig.keys:1: a byte order mark"},
		{"secret touches its value", "key a {\nsecret\"" + secretA + "\";\n};", "tsig.keys:2: unexpected text after `secret`"},
		{"closing brace with text", "key a {\nsecret " + secretA + "\n}end\n", "tsig.keys:3: unexpected text in key"},
		// What CoreDNS loads and can never use.
		{"not base64", "key a {\nsecret \"not*base64\";\n};", "tsig.keys:2: key \"a.\": the secret is not base64"},
		{"base64 without padding", "key a {\nsecret \"" + strings.TrimRight(secretA, "=") + "\";\n};", "tsig.keys:2: key \"a.\": the secret is not base64"},
		{"name with an empty label", "key a..example.org {\nsecret " + secretA + "\n};", "tsig.keys:1: key name \"a..example.org.\" is not a domain name"},
		{"label too long", "key " + strings.Repeat("a", 64) + " {\nsecret " + secretA + "\n};", "is not a domain name"},
		{"semicolon in the name", "key \"a\"; {\nsecret " + secretA + "\n};", "can never match"},
		{"name not in ASCII", "key ä.example.org {\nsecret " + secretA + "\n};", "can never match"},
		{"the root", "key . {\nsecret " + secretA + "\n};", "is the root"},
		{"a line that CoreDNS stops at silently", "key a {\nsecret " + secretA + "\n};\n" + long, "tsig.keys:4: the line is longer than 65536 octets"},
		{"a long line in a key", "key a {\nsecret " + secretA + "\n" + long, "tsig.keys:3: the line is longer"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			keys, err := Parse("tsig.keys", strings.NewReader(tt.file))
			if err == nil {
				t.Fatalf("accepted as %v", keys)
			}
			if !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got  %s\nwant %s", err, tt.want)
			}
			if strings.Contains(err.Error(), secretA[:12]) {
				t.Errorf("the error shows a secret: %s", err)
			}
		})
	}
}

type brokenReader struct{ err error }

func (b brokenReader) Read([]byte) (int, error) { return 0, b.err }

func TestParseBounds(t *testing.T) {
	if _, err := Parse("k", strings.NewReader(strings.Repeat("\n", MaxFileSize+1))); err == nil || !strings.Contains(err.Error(), "larger than") {
		t.Errorf("a file that is too large: %v", err)
	}
	broken := errors.New("broken")
	if _, err := Parse("k", brokenReader{broken}); !errors.Is(err, broken) {
		t.Errorf("a read error is lost: %v", err)
	}
	if _, err := Parse("k", io.MultiReader(strings.NewReader("key a {\n"), brokenReader{broken})); !errors.Is(err, broken) {
		t.Errorf("a read error inside a key is lost: %v", err)
	}
}

func TestLoad(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "tsig.keys")
	if _, err := Load(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("Load of a missing file: %v", err)
	}
	if _, err := WorldReadable(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("WorldReadable of a missing file: %v", err)
	}
	k, err := Generate("dhcp.example.org")
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o640)
	if err != nil {
		t.Fatal(err)
	}
	if n, err := k.WriteTo(f); err != nil || n == 0 {
		t.Fatal(n, err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	keys, err := Load(path)
	if err != nil || len(keys) != 1 || keys[0].Name != k.Name || keys[0].Algorithm != k.Algorithm || keys[0].Secret() != k.Secret() {
		t.Errorf("got %v, %v, want %v", keys, err, k)
	}
	for mode, want := range map[os.FileMode]bool{0o640: false, 0o600: false, 0o644: true, 0o642: true} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		if got, err := WorldReadable(path); err != nil || got != want {
			t.Errorf("WorldReadable of mode %o = %v, %v", mode, got, err)
		}
	}
}

// FuzzParse holds what is true of every input: no panic; what is accepted can be
// looked up and, if it can sign, written and read back; what is refused names its
// line and no secret.
func FuzzParse(f *testing.F) {
	for _, tt := range accepted {
		f.Add(tt.file)
	}
	f.Add("key a { secret \"" + secretA + "\"; };")
	f.Add("# comment\nkey \"a\n{\n}}")
	f.Fuzz(func(t *testing.T, file string) {
		keys, err := Parse("f", strings.NewReader(file))
		if err != nil {
			if !strings.HasPrefix(err.Error(), "f:") {
				t.Errorf("error without a place: %v", err)
			}
			return
		}
		for _, k := range keys {
			if k.Name != canonical(k.Name) || k.Secret() == "" {
				t.Errorf("key %q", k.Name)
			}
			if strings.ContainsAny(k.Name, "\"{ \t") {
				continue // escaped; Generate makes none of these
			}
			var b strings.Builder
			if _, err := k.WriteTo(&b); err != nil {
				t.Fatal(err)
			}
			again, err := Parse("again", strings.NewReader(b.String()))
			if err != nil || len(again) != 1 || again[0].Name != k.Name || again[0].Secret() != k.Secret() {
				t.Errorf("%q does not read back: %v %v", b.String(), again, err)
			}
		}
	})
}
