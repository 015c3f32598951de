package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/net/netutil"
	"golang.org/x/sync/errgroup"
)

// What one who can reach the admin address may take up.
const (
	adminConnections = 64
	adminScrapes     = 4 // at a time
	adminHeader      = 8 << 10
	adminRead        = 10 * time.Second
	adminWrite       = 30 * time.Second
	adminIdle        = time.Minute
	adminStop        = time.Second // for answers that are being written when the server ends
)

// listenAdmin opens the admin address, so that one that cannot be had is an error
// of the start.
func listenAdmin(ctx context.Context, address string) (net.Listener, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil || host == "" {
		return nil, fmt.Errorf("admin address %q: expected HOST:PORT, as in 127.0.0.1:9567", address)
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("admin address: %w", err)
	}
	return netutil.LimitListener(l, adminConnections), nil
}

// serveAdmin answers on l until ctx ends.
func (s *Server) serveAdmin(group *errgroup.Group, ctx context.Context, l net.Listener) {
	h := &http.Server{
		Handler:           s.adminHandler(),
		ReadTimeout:       adminRead,
		ReadHeaderTimeout: adminRead,
		WriteTimeout:      adminWrite,
		IdleTimeout:       adminIdle,
		MaxHeaderBytes:    adminHeader,
		ErrorLog:          discardLog, // what strangers send is not worth a line each
	}
	s.log.Info("admin", "address", l.Addr().String())
	group.Go(func() error {
		if err := h.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("admin: %w", err)
		}
		return nil
	})
	group.Go(func() error {
		<-ctx.Done()
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), adminStop)
		defer cancel()
		if h.Shutdown(last) != nil {
			_ = h.Close() // an answer that takes longer is cut off
		}
		return nil
	})
}

// adminHandler serves /metrics (Prometheus), /health (200 while the process
// lives) and /ready (200 when clients are served, else 503 and the reason).
func (s *Server) adminHandler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(s.host.registry(), promhttp.HandlerOpts{
		MaxRequestsInFlight: adminScrapes,
		Timeout:             adminRead,
	}))
	mux.HandleFunc("GET /health", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "OK\n") // the asker may be gone
	})
	mux.HandleFunc("GET /ready", func(w http.ResponseWriter, _ *http.Request) {
		if why := s.unready(); why != "" {
			http.Error(w, why, http.StatusServiceUnavailable)
			return
		}
		_, _ = io.WriteString(w, "OK\n")
	})
	return mux
}

// unready says why no client is served, or "".
func (s *Server) unready() string {
	switch s.phase.Load() {
	case phaseStarting:
		return "plugins are starting"
	case phaseStopping:
		return "stopping"
	}
	if s.conf.Server4 == nil {
		return ""
	}
	if s.openSockets() == 0 {
		return "no address of `listen` is there yet"
	}
	for _, l := range s.chain {
		if r, ok := l.plugin.(Readier); ok {
			if err := r.Ready(); err != nil {
				return l.name + ": " + err.Error()
			}
		}
	}
	return ""
}
