//go:build linux

package integration

import (
	"encoding/base64"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/dicomnam/dicomnam/integration/lab"
	"github.com/dicomnam/dicomnam/integration/radiology"
)

var secretStatement = regexp.MustCompile(`secret\s+"([^"]+)"`)

// secretOf reads the secret of a key file with one key.
func secretOf(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	m := secretStatement.FindSubmatch(text)
	if m == nil {
		t.Fatalf("%s holds no secret", path)
	}
	if _, err := base64.StdEncoding.DecodeString(string(m[1])); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return string(m[1])
}

// waitWritten waits until a process has written what matches, and returns it.
func waitWritten(t *testing.T, p *lab.Process, pattern string) string {
	t.Helper()
	re := regexp.MustCompile(pattern)
	for ctx := timeout(t, patience); ; {
		if found := re.FindString(p.Written()); found != "" {
			return found
		}
		select {
		case <-ctx.Done():
			t.Fatalf("%s did not write %q:\n%s", p.Name, pattern, p.Tail(20))
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// nsupdate sends an update that is signed with the network's key.
func nsupdate(t *testing.T, l *lab.Lab, n *radiology.Network, script string) {
	t.Helper()
	if out, err := runNsupdate(t, l, n, n.Keys, script); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

// runNsupdate sends an update that is signed with the key of a file. Where the
// server refuses it, the error says so with the RCODE's name.
func runNsupdate(t *testing.T, l *lab.Lab, n *radiology.Network, keys, script string) (string, error) {
	t.Helper()
	path := filepath.Join(l.Dir, "nsupdate.txt")
	writeFile(t, path, fmt.Sprintf("server %s %d\n%s\nsend\n", n.DNS.Addr(), n.DNS.Port(), script))
	out, err := l.Output(timeout(t, patience), l.Server, "nsupdate", "-k", keys, path)
	return string(out), err
}

// wait waits until a process has ended.
func wait(t *testing.T, p *lab.Process) {
	t.Helper()
	select {
	case <-p.Done():
	case <-timeout(t, patience).Done():
		t.Fatalf("%s does not end:\n%s", p.Name, p.Tail(20))
	}
}

// waitTCP waits until a process takes connections at an address.
func waitTCP(t *testing.T, p *lab.Process, from *lab.Namespace, address netip.AddrPort) {
	t.Helper()
	for ctx := timeout(t, patience); ; {
		conn, err := from.Dial("tcp4", address)
		if err == nil {
			conn.Close()
			return
		}
		select {
		case <-p.Done():
			t.Fatalf("%s ended: %v\n%s", p.Name, p.Err(), p.Tail(20))
		case <-ctx.Done():
			t.Fatalf("%s: %v", p.Name, err)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

func writeFile(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// edit replaces one piece of a file, once.
func edit(t *testing.T, path, old, replacement string) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(text), old) {
		t.Fatalf("%s does not hold %q", path, old)
	}
	writeFile(t, path, strings.Replace(string(text), old, replacement, 1))
}
