package server

import (
	"context"
	"fmt"
	"io"
	"log"
	"log/slog"
	"strconv"
	"sync/atomic"
	"time"
	"unicode"

	"github.com/coredhcp/coredhcp/logger"
	"github.com/sirupsen/logrus"
	"golang.org/x/time/rate"
)

// newLogger returns a logger whose lines go through CoreDHCP's with the given
// prefix.
func newLogger(prefix string) *slog.Logger {
	return slog.New(&logHandler{entry: logger.GetLogger(prefix)})
}

// discardLog is for servers of libraries whose lines strangers can cause.
var discardLog = log.New(io.Discard, "", 0)

// logHandler writes slog records to a logrus entry, attributes as fields. Groups
// become dotted prefixes of the field names.
type logHandler struct {
	entry *logrus.Entry
	group string
}

var _ slog.Handler = (*logHandler)(nil)

func (h *logHandler) Enabled(_ context.Context, level slog.Level) bool {
	return h.entry.Logger.IsLevelEnabled(logrusLevel(level))
}

func (h *logHandler) Handle(_ context.Context, r slog.Record) error {
	fields := make(logrus.Fields, r.NumAttrs())
	r.Attrs(func(a slog.Attr) bool {
		addField(fields, h.group, a)
		return true
	})
	h.entry.WithTime(r.Time).WithFields(fields).Log(logrusLevel(r.Level), printable(r.Message))
	return nil
}

func (h *logHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	fields := make(logrus.Fields, len(attrs))
	for _, a := range attrs {
		addField(fields, h.group, a)
	}
	return &logHandler{entry: h.entry.WithFields(fields), group: h.group}
}

func (h *logHandler) WithGroup(name string) slog.Handler {
	if name == "" {
		return h
	}
	return &logHandler{entry: h.entry, group: h.group + name + "."}
}

func addField(fields logrus.Fields, group string, a slog.Attr) {
	value := a.Value.Resolve()
	if value.Kind() == slog.KindGroup {
		if a.Key != "" {
			group += a.Key + "."
		}
		for _, member := range value.Group() {
			addField(fields, group, member)
		}
		return
	}
	if a.Key == "" {
		return
	}
	key := group + a.Key
	if key == "prefix" {
		// The name of CoreDHCP's own field, which its formatter takes for a string
		// and prints in front of the message.
		key = "fields.prefix"
	}
	switch v := value.Any().(type) {
	case bool, int64, uint64, float64:
		fields[key] = v
	default:
		fields[key] = printable(fmt.Sprint(v))
	}
}

// printable escapes what must not reach a log line raw. CoreDHCP's formatter
// escapes nothing, and much of what is logged was sent by strangers: a host name
// with a line feed in it would forge a line.
func printable(s string) string {
	for _, r := range s {
		if r == '"' || r == unicode.ReplacementChar || !unicode.IsPrint(r) {
			quoted := strconv.Quote(s)
			return quoted[1 : len(quoted)-1]
		}
	}
	return s
}

func logrusLevel(l slog.Level) logrus.Level {
	switch {
	case l >= slog.LevelError:
		return logrus.ErrorLevel
	case l >= slog.LevelWarn:
		return logrus.WarnLevel
	case l >= slog.LevelInfo:
		return logrus.InfoLevel
	}
	return logrus.DebugLevel
}

// Limited is a log line that strangers can cause: it is written some times in a
// row, then only so often, with the number of lines left out.
type Limited struct {
	limiter *rate.Limiter
	left    atomic.Uint64
}

// NewLimited returns a line that was not written yet, for what is not expected:
// it is written five times in a row, then once in ten seconds.
func NewLimited() *Limited { return NewLimitedTo(5, 10*time.Second) }

// NewLimitedTo returns a line that is written burst times in a row, then once in
// every.
func NewLimitedTo(burst int, every time.Duration) *Limited {
	return &Limited{limiter: rate.NewLimiter(rate.Every(every), burst)}
}

// Log writes the line through write (a method of a [slog.Logger]) or counts it
// as left out.
func (l *Limited) Log(write func(msg string, args ...any), msg string, args ...any) {
	if !l.limiter.Allow() {
		l.left.Add(1)
		return
	}
	if n := l.left.Swap(0); n > 0 {
		args = append(args, "left_out", n)
	}
	write(msg, args...)
}
