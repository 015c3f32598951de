package control

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// TestOthers is a user of the machine who is neither root nor the server.
func TestOthers(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can act as somebody else")
	}
	dir := t.TempDir()
	for _, d := range []string{dir, filepath.Dir(dir)} { // both are the test's own
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	open := filepath.Join(dir, "open")
	l, err := net.Listen("unix", open)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := os.Chmod(open, 0o666); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "control.sock")
	start(t, NewServer(), path)
	asOther(t, func() {
		if conn, err := net.Dial("unix", open); err != nil {
			t.Fatalf("the directory cannot be reached, so this test proves nothing: %v", err)
		} else {
			_ = conn.Close()
		}
		if err := Call(t.Context(), path, "x", nil, nil); !errors.Is(err, fs.ErrPermission) {
			t.Errorf("another user: %v", err)
		}
	})
}

// asOther calls f as a user to whom nothing belongs.
func asOther(t *testing.T, f func()) {
	t.Helper()
	runtime.LockOSThread() // the identity is the thread's
	defer runtime.UnlockOSThread()
	if _, err := unix.SetfsuidRetUid(65534); err != nil {
		t.Fatal(err)
	}
	defer func() { _, _ = unix.SetfsuidRetUid(0) }()
	f()
}
