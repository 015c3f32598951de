package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/dicomnam/dicomnam/coredhcp-plugins/pkg/control"
)

// defaultControl is where packages and the documentation have coredhcp open its
// control socket.
const defaultControl = "/run/dicomnam/coredhcp.sock"

// server is the running coredhcp that a command asks.
type server struct {
	path string // of its control socket
	json bool   // print its answer as it came
}

// flags adds what all commands that ask a server have in common.
func (s *server) flags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&s.path, "control", defaultControl, "the control socket `PATH` that coredhcp was given as --control")
	cmd.Flags().BoolVar(&s.json, "json", false, "print one JSON object a line")
}

// printer writes the items of an answer of type T.
type printer[T any] interface {
	item(T) error
	end() error // the answer was complete
}

// ask calls a command of the server, and writes its answer to the output of cmd
// as it comes in: as JSON, or by the printer that text makes. What came before
// an error is written all the same; if nothing did, then nothing is.
func ask[T any](cmd *cobra.Command, s *server, command string, args any, text func(w io.Writer) printer[T]) error {
	out := bufio.NewWriter(cmd.OutOrStdout())
	var p printer[T] = jsonLines[T]{}
	each := func(item json.RawMessage) error {
		_, _ = out.Write(item)
		return out.WriteByte('\n')
	}
	if !s.json {
		p = text(out)
		each = func(item json.RawMessage) error {
			var v T
			if err := json.Unmarshal(item, &v); err != nil {
				return fmt.Errorf("control socket %s: item of the answer: %w", s.path, err)
			}
			return p.item(v)
		}
	}
	begun := false
	err := s.explain(control.Call(cmd.Context(), s.path, command, args, func(item json.RawMessage) error {
		begun = true
		return each(item)
	}))
	if err != nil && !begun {
		return err // and no header over nothing
	}
	return errors.Join(err, p.end(), out.Flush())
}

// jsonLines needs no printer: items are written as they are.
type jsonLines[T any] struct{}

func (jsonLines[T]) item(T) error { return nil }
func (jsonLines[T]) end() error   { return nil }

// explain says what to do about an error of the socket.
func (s *server) explain(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("no control socket at %s: is coredhcp running with --control %s? (CoreDHCP's own server has none)", s.path, s.path)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("permission denied for %s: only root and the user that coredhcp runs as may use it", s.path)
	case errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("nobody listens at %s: coredhcp has left it behind and is not running", s.path)
	case errors.Is(err, context.Canceled):
		return errors.New("interrupted")
	}
	return err
}

// addressArg is the one argument of a command, an IP address. It accepts what
// [netip.ParseAddr] does but an address with a zone.
func addressArg(cmd *cobra.Command, args []string) error {
	if err := oneArg(cmd, args); err != nil {
		return err
	}
	if a, err := netip.ParseAddr(args[0]); err != nil || a.Zone() != "" {
		return fmt.Errorf("%q: expected an IP address such as 192.0.2.11", args[0])
	}
	return nil
}
