package ddns

import (
	"bytes"
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/dicomnam/dicomnam/coredhcp-plugins/pkg/lease"
	"github.com/dicomnam/dicomnam/coredhcp-plugins/server"
	"github.com/dicomnam/dicomnam/plugin/pkg/tsigkey"
)

// replaceKey puts a new key file in the place of another, as `dicomnam keygen` and a rename do.
func replaceKey(t *testing.T, path string) {
	t.Helper()
	key, err := tsigkey.Generate(keyName)
	if err != nil {
		t.Fatal(err)
	}
	var text bytes.Buffer
	if _, err := key.WriteTo(&text); err != nil {
		t.Fatal(err)
	}
	replaceFile(t, path, text.String())
}

func replaceFile(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path+".new", []byte(text), 0o640); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

// A reload takes up the key of a new file. A file that is no good is an error that says why, and updates go on with the
// key from before.
func TestReloadKeys(t *testing.T) {
	keys, key := keyFile(t)
	text, err := os.ReadFile(keys)
	if err != nil {
		t.Fatal(err)
	}
	updates := make(chan *dns.Msg, 20)
	address := serveUpdates(t, key, updates)
	p, err := New(strings.Fields("site="+siteFile(t, "")+" server="+address+" keys="+keys+" key="+keyName+" database="+filepath.Join(t.TempDir(), "names")), new(server.Host))
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	d := p.(*DDNS)
	clients := byte(0)
	note := func() (name string) {
		t.Helper()
		clients++
		q := lease.Query{Client: lease.Client{HardwareType: 1, HardwareAddr: "\x00\x00\x5e\x00\x53" + string(rune(clients))}, Hostname: "ws" + string(rune('a'+clients))}
		if err := d.running.Load().leases.Note(t.Context(), q, netip.AddrFrom4([4]byte{192, 0, 2, clients}), time.Hour); err != nil {
			t.Fatal(err)
		}
		return q.Hostname + ".imaging.example.org."
	}
	await := func(name string) {
		t.Helper()
		for late := time.After(time.Minute); ; {
			select {
			case m := <-updates:
				if m.Ns[0].Header().Name == name {
					return
				}
			case <-late:
				t.Fatalf("no update of %s", name)
			}
		}
	}
	await(note())

	const secret = "c2VjcmV0IGluIHRoZSBmaWxl"
	for name, bad := range map[string]struct {
		text, want string
	}{
		"no such key":   {"key \"other.example.org.\" {\n\tsecret \"" + secret + "\";\n};\n", keys + ": no key \"" + keyName + "\" among other.example.org."},
		"no keys":       {"", keys + ": no key \"" + keyName + "\": there are no keys"},
		"half a file":   {"key \"" + keyName + "\" {\n", "has no secret"},
		"no base64":     {"key \"" + keyName + "\" {\n\tsecret \"" + secret + "?\";\n};\n", keys + ":2: key"},
		"one line":      {"key " + keyName + " { secret \"" + secret + "\"; };\n", "one statement a line"},
		"not supported": {"key " + keyName + " {\n\talgorithm hmac-md5;\n\tsecret \"" + secret + "\";\n};\n", "algorithm \"hmac-md5\" is not supported"},
	} {
		replaceFile(t, keys, bad.text)
		err := d.Reload()
		if err == nil || !strings.Contains(err.Error(), bad.want) || !strings.HasPrefix(err.Error(), "updates are signed with the keys from before: ") {
			t.Errorf("%s: error = %v, want %q in it", name, err, bad.want)
		}
		if err != nil && strings.Contains(err.Error(), secret[:8]) {
			t.Errorf("%s: the error has the secret: %v", name, err)
		}
	}
	if err := os.Remove(keys); err != nil {
		t.Fatal(err)
	}
	if err := d.Reload(); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
	await(note())

	// The server has not got the new key: its refusals, and they alone, have the file read again when it is as it was.
	replaceKey(t, keys)
	if err := d.Reload(); err != nil {
		t.Fatal(err)
	}
	name := note()
	for begin := time.Now(); d.running.Load().worker.Stats().Failures == 0; time.Sleep(10 * time.Millisecond) {
		if time.Since(begin) > time.Minute {
			t.Fatal("nothing is signed with the new key")
		}
	}
	replaceFile(t, keys, string(text))
	await(name)
}
