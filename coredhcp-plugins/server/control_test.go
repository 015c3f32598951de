package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dicomnam/dicomnam/coredhcp-plugins/pkg/control"
)

// TestControl asks a plugin by the control socket, from its start to its end.
func TestControl(t *testing.T) {
	closed := false
	name := fmt.Sprintf("fake%d", fakes.Add(1))
	Register(name, func(_ []string, h *Host) (Plugin, error) {
		h.OnControl("echo", func(_ context.Context, args json.RawMessage, send func(any) error) error {
			if closed {
				return errors.New("called after Close")
			}
			return send(args)
		})
		return &fake{close: func() error { closed = true; return nil }}, nil
	})
	s := newServer(t, loopback(name+":"))
	path := filepath.Join(t.TempDir(), "socket")
	s.options.Control = path
	stop := runServer(t, s)
	var got []string
	waitFor(t, func() bool { _, err := os.Stat(path); return err == nil })
	if err := control.Call(t.Context(), path, "echo", map[string]int{"n": 7}, func(v json.RawMessage) error {
		got = append(got, string(v))
		return nil
	}); err != nil || fmt.Sprint(got) != `[{"n":7}]` {
		t.Errorf("got %q, %v", got, err)
	}
	second := newServer(t, loopback("server_id: 192.0.2.2"))
	second.options.Control = path
	if err := second.Run(t.Context()); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("a second server at the same socket: %v", err)
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket after the end: %v", err)
	}
}

func TestControlFailure(t *testing.T) {
	s := newServer(t, loopback("server_id: 192.0.2.2"))
	s.options.Control = filepath.Join(t.TempDir(), "none", "socket")
	if err := s.Run(t.Context()); err == nil || !strings.Contains(err.Error(), s.options.Control) {
		t.Errorf("no directory: %v", err)
	}
}
