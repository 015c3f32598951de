package dicom

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"time"

	clog "github.com/coredns/coredns/plugin/pkg/log"

	"golang.org/x/time/rate"
)

var log = clog.NewWithPlugin(pluginName)

// sparing logs the first few events of a kind at once and then one in a while:
// a client that repeats a refused update ten times a second must not fill a disk.
func sparing() *rate.Sometimes { return &rate.Sometimes{First: 5, Interval: 10 * time.Second} }

// refusalLines log why updates are refused, each reason sparingly by itself, so
// that one client that is refused all the time hides no other kind.
type refusalLines [reasons]*rate.Sometimes

func newRefusalLines() (l refusalLines) {
	for r := range l {
		l[r] = sparing()
	}
	return l
}

// A logHandler lets packages that know nothing of CoreDNS write to its log.
type logHandler struct {
	attrs string // " key=value" of what WithAttrs collected
	group string // prefix of keys
}

var _ slog.Handler = logHandler{}

// Enabled implements [slog.Handler].
func (logHandler) Enabled(_ context.Context, l slog.Level) bool {
	return l >= slog.LevelInfo || clog.D.Value()
}

// Handle implements [slog.Handler].
func (h logHandler) Handle(_ context.Context, r slog.Record) error {
	var b strings.Builder
	b.WriteString(r.Message)
	b.WriteString(h.attrs)
	r.Attrs(func(a slog.Attr) bool {
		h.write(&b, a)
		return true
	})
	switch {
	case r.Level >= slog.LevelError:
		log.Error(b.String())
	case r.Level >= slog.LevelWarn:
		log.Warning(b.String())
	case r.Level >= slog.LevelInfo:
		log.Info(b.String())
	default:
		log.Debug(b.String())
	}
	return nil
}

func (h logHandler) write(b *strings.Builder, a slog.Attr) {
	if !a.Equal(slog.Attr{}) {
		fmt.Fprintf(b, " %s%s=%v", h.group, a.Key, a.Value.Resolve())
	}
}

// WithAttrs implements [slog.Handler].
func (h logHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	var b strings.Builder
	for _, a := range attrs {
		h.write(&b, a)
	}
	h.attrs += b.String()
	return h
}

// WithGroup implements [slog.Handler].
func (h logHandler) WithGroup(name string) slog.Handler {
	h.group += name + "."
	return h
}
