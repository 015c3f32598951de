//go:build unix

package control

import (
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// TestMode looks at the socket all the while that servers with no umask at all make it and take it away.
func TestMode(t *testing.T) {
	defer syscall.Umask(syscall.Umask(0))
	dir := t.TempDir()
	path := filepath.Join(dir, "control.sock")
	end := make(chan struct{})
	var seen atomic.Int64
	var watcher sync.WaitGroup
	watcher.Go(func() {
		for {
			select {
			case <-end:
				return
			default:
			}
			entries, err := os.ReadDir(dir)
			if err != nil {
				t.Error(err)
				return
			}
			for _, e := range entries {
				info, err := e.Info()
				if err != nil {
					continue // gone since
				}
				if seen.Add(1); info.Mode().Perm()&0o077 != 0 {
					t.Errorf("%s has mode %s", e.Name(), info.Mode())
					return
				}
			}
		}
	})
	for late, n := time.Now().Add(time.Minute), 0; n < 200 || seen.Load() == 0 && time.Now().Before(late); n++ {
		s, err := listen(path)
		if err != nil {
			t.Fatal(err)
		}
		info, err := os.Lstat(path)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode() != fs.ModeSocket|0o600 {
			t.Fatalf("mode %s", info.Mode())
		}
		if err := s.close(); err != nil {
			t.Fatal(err)
		}
	}
	close(end)
	watcher.Wait()
	if seen.Load() == 0 {
		t.Error("the watcher has seen nothing")
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// TestUmask is a umask that would take the owner's own permissions away from a socket made in place.
func TestUmask(t *testing.T) {
	dir := t.TempDir()
	defer syscall.Umask(syscall.Umask(0o077))
	s, err := listen(filepath.Join(dir, "control.sock"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.close() }()
	if info, err := os.Lstat(s.path); err != nil || info.Mode() != fs.ModeSocket|0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
}

func TestPlaces(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("keep"), 0o600); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(dir, "link")
	if err := os.Symlink(file, link); err != nil {
		t.Fatal(err)
	}
	live := filepath.Join(dir, "live")
	l, err := listen(live)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.close() }()
	toLive := filepath.Join(dir, "to-live")
	if err := os.Symlink(live, toLive); err != nil {
		t.Fatal(err)
	}
	tests := []struct{ name, path, want string }{
		{"no directory", filepath.Join(dir, "none", "s"), "no such file or directory"},
		{"a directory", dir, "expected no file there, or a socket; found d"},
		{"a file", file, "expected no file there, or a socket; found -rw-------"},
		{"a symbolic link to a file", link, "expected no file there, or a socket; found L"},
		{"a symbolic link to a socket", toLive, "expected no file there, or a socket; found L"},
		{"in use", live, "another process listens there"},
		{"too long", filepath.Join(dir, strings.Repeat("x", 200)), "octets shorter"},
		{"under a file", filepath.Join(file, "s"), "not a directory"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := NewServer().Serve(t.Context(), tt.path)
			if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.HasPrefix(err.Error(), "control socket "+tt.path) {
				t.Errorf("error %v, want %q", err, tt.want)
			}
		})
	}
	if b, err := os.ReadFile(file); err != nil || string(b) != "keep" {
		t.Errorf("the file: %q, %v", b, err)
	}
	if conn, err := net.Dial("unix", live); err != nil {
		t.Errorf("the socket in use: %v", err)
	} else {
		_ = conn.Close()
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 4 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// TestStale is a socket that a killed server left.
func TestStale(t *testing.T) {
	path := filepath.Join(t.TempDir(), "control.sock")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	s := NewServer()
	s.Handle("echo", echo)
	start(t, s, path)
	if _, err := collect(t, path, "echo", nil); err != nil {
		t.Error(err)
	}
}

// TestReplaced is a socket whose place another server was given: the first one leaves it there when it stops.
func TestReplaced(t *testing.T) {
	path := filepath.Join(t.TempDir(), "control.sock")
	stop := start(t, NewServer(), path)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	s := NewServer()
	s.Handle("echo", echo)
	start(t, s, path)
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if _, err := collect(t, path, "echo", nil); err != nil {
		t.Errorf("the second server: %v", err)
	}
}

// TestRace starts servers at one moment where a killed one left its socket. One of them has it, all others say so.
func TestRace(t *testing.T) {
	for range 20 {
		path := filepath.Join(t.TempDir(), "control.sock")
		l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
		if err != nil {
			t.Fatal(err)
		}
		l.SetUnlinkOnClose(false)
		_ = l.Close()
		const n = 8
		sockets := make([]*socket, n)
		errs := make([]error, n)
		var all sync.WaitGroup
		begin := make(chan struct{})
		for i := range n {
			all.Go(func() {
				<-begin
				sockets[i], errs[i] = listen(path)
			})
		}
		close(begin)
		all.Wait()
		served := 0
		for i, s := range sockets {
			if s == nil {
				continue
			}
			if errs[i] != nil {
				t.Errorf("both a socket and %v", errs[i])
			}
			if info, err := os.Lstat(path); err == nil && os.SameFile(info, s.file) {
				served++
			} else {
				t.Errorf("a server listens where nobody finds it")
			}
		}
		if served != 1 {
			t.Errorf("%d servers have the socket: %v", served, errs)
		}
		for _, s := range sockets {
			if s != nil {
				_ = s.close()
			}
		}
	}
}
