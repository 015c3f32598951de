package control

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"time"
)

// maxPath is how long the path of a Unix socket may be on every system.
const maxPath = 103

// privateDir is a new directory's name, beside the socket's place, before its ten digits at most.
const privateDir = ".control"

// socket is a listening Unix socket, and where it is.
type socket struct {
	*net.UnixListener
	path string
	file fs.FileInfo // the one at path, while it is ours
}

// listen makes the socket where nobody else can reach it, and links it to its place once it listens and is private. A link
// never replaces a file, and only one server at a time looks at what is there and takes it away.
func listen(path string) (_ *socket, err error) {
	parent := filepath.Dir(path)
	dir, err := os.MkdirTemp(parent, privateDir)
	if err != nil {
		return nil, fmt.Errorf("expected a directory that the server can write to: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	private := filepath.Join(dir, "s")
	if n := max(len(private), len(path)); n > maxPath {
		return nil, fmt.Errorf("expected a path that is %d octets shorter", n-maxPath)
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: private, Net: "unix"})
	if err != nil {
		return nil, err
	}
	l.SetUnlinkOnClose(false) // it will have another name
	s := &socket{UnixListener: l, path: path}
	defer func() {
		if err != nil {
			_ = l.Close() // its error says less
		}
	}()
	if err := os.Chmod(private, 0o600); err != nil {
		return nil, err
	}
	if s.file, err = os.Lstat(private); err != nil {
		return nil, err
	}
	unlock, err := lock(parent)
	if err != nil {
		return nil, err
	}
	defer unlock()
	err = os.Link(private, path)
	if errors.Is(err, fs.ErrExist) {
		if err = stale(path); err == nil {
			err = errors.Join(os.Remove(path), os.Link(private, path))
		}
	}
	if err != nil {
		return nil, err
	}
	return s, nil
}

// stale says why a file must stay, nil for a socket that nobody listens on.
func stale(path string) error {
	info, err := os.Lstat(path)
	if err != nil {
		return err
	}
	if info.Mode().Type() != fs.ModeSocket {
		return fmt.Errorf("expected no file there, or a socket; found %s", info.Mode())
	}
	conn, err := net.DialTimeout("unix", path, time.Second)
	if err == nil {
		_ = conn.Close()
		return errors.New("another process listens there")
	}
	if !refused(err) {
		return fmt.Errorf("whether another process listens there: %w", err)
	}
	return nil
}

// interrupt ends a waiting Accept.
func (s *socket) interrupt() { _ = s.SetDeadline(time.Unix(1, 0)) }

// close ends listening and takes the socket away, unless another server has taken its place.
func (s *socket) close() error {
	var err error
	if info, lerr := os.Lstat(s.path); lerr == nil && os.SameFile(info, s.file) {
		err = os.Remove(s.path)
	}
	return errors.Join(err, s.Close())
}
