// Command coredhcp is CoreDHCP with every stock plugin and leases, ntp and ddns,
// served by our own loop. Its config.yml is CoreDHCP's, and so are its flags but
// for --admin and --control, which open nothing unless they are given.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"github.com/coredhcp/coredhcp/config"
	"github.com/coredhcp/coredhcp/logger"
	"github.com/coredhcp/coredhcp/plugins"
	pl_autoconfigure "github.com/coredhcp/coredhcp/plugins/autoconfigure"
	pl_dns "github.com/coredhcp/coredhcp/plugins/dns"
	pl_file "github.com/coredhcp/coredhcp/plugins/file"
	pl_ipv6only "github.com/coredhcp/coredhcp/plugins/ipv6only"
	pl_leasetime "github.com/coredhcp/coredhcp/plugins/leasetime"
	pl_mtu "github.com/coredhcp/coredhcp/plugins/mtu"
	pl_nbp "github.com/coredhcp/coredhcp/plugins/nbp"
	pl_netmask "github.com/coredhcp/coredhcp/plugins/netmask"
	pl_prefix "github.com/coredhcp/coredhcp/plugins/prefix"
	pl_range "github.com/coredhcp/coredhcp/plugins/range"
	pl_router "github.com/coredhcp/coredhcp/plugins/router"
	pl_searchdomains "github.com/coredhcp/coredhcp/plugins/searchdomains"
	pl_serverid "github.com/coredhcp/coredhcp/plugins/serverid"
	pl_sleep "github.com/coredhcp/coredhcp/plugins/sleep"
	pl_staticroute "github.com/coredhcp/coredhcp/plugins/staticroute"
	"github.com/sirupsen/logrus"
	flag "github.com/spf13/pflag"

	_ "github.com/dicomnam/dicomnam/coredhcp-plugins/ddns"
	_ "github.com/dicomnam/dicomnam/coredhcp-plugins/leases"
	_ "github.com/dicomnam/dicomnam/coredhcp-plugins/ntp"
	"github.com/dicomnam/dicomnam/coredhcp-plugins/server"
)

// stock is every plugin of CoreDHCP's own build.
var stock = []*plugins.Plugin{
	&pl_autoconfigure.Plugin,
	&pl_dns.Plugin,
	&pl_file.Plugin,
	&pl_ipv6only.Plugin,
	&pl_leasetime.Plugin,
	&pl_mtu.Plugin,
	&pl_nbp.Plugin,
	&pl_netmask.Plugin,
	&pl_prefix.Plugin,
	&pl_range.Plugin,
	&pl_router.Plugin,
	&pl_searchdomains.Plugin,
	&pl_serverid.Plugin,
	&pl_sleep.Plugin,
	&pl_staticroute.Plugin,
}

// logLevels are CoreDHCP's names for how much is logged.
var logLevels = map[string]func(*logrus.Logger){
	"none":    func(l *logrus.Logger) { l.SetOutput(io.Discard) },
	"debug":   func(l *logrus.Logger) { l.SetLevel(logrus.DebugLevel) },
	"info":    func(l *logrus.Logger) { l.SetLevel(logrus.InfoLevel) },
	"warning": func(l *logrus.Logger) { l.SetLevel(logrus.WarnLevel) },
	"error":   func(l *logrus.Logger) { l.SetLevel(logrus.ErrorLevel) },
	"fatal":   func(l *logrus.Logger) { l.SetLevel(logrus.FatalLevel) },
}

func main() {
	tune()
	if err := run(); err != nil {
		logError("coredhcp ends", err)
		os.Exit(1)
	}
}

// logError logs each line of an error by itself: the logger would quote those of
// a wrong site file into one.
func logError(what string, err error) {
	log := logger.GetLogger("main")
	for line := range strings.SplitSeq(err.Error(), "\n") {
		log.Errorf("%s: %s", what, line)
	}
}

// run serves by the command line until it is told to end.
func run() error {
	levels := make([]string, 0, len(logLevels))
	for name := range logLevels {
		levels = append(levels, name)
	}
	slices.Sort(levels)

	logFile := flag.StringP("logfile", "l", "", "Name of the log file to append to. Default: stdout/stderr only")
	logNoStdout := flag.BoolP("nostdout", "N", false, "Disable logging to stdout/stderr")
	logLevel := flag.StringP("loglevel", "L", "info", "Log level. One of "+strings.Join(levels, ", "))
	conf := flag.StringP("conf", "c", "", "Use this configuration file instead of the default location")
	admin := flag.String("admin", "", "Serve /metrics, /health and /ready at this address, such as 127.0.0.1:9567. Default: nowhere")
	control := flag.String("control", "", "Take commands at this Unix socket, such as /run/dicomnam/coredhcp.sock. Default: none")
	list := flag.BoolP("plugins", "P", false, "list plugins")
	flag.Parse()
	if flag.NArg() > 0 {
		return fmt.Errorf("argument %q: expected flags only", flag.Arg(0))
	}

	if *list {
		for _, name := range pluginNames() {
			fmt.Println(name)
		}
		return nil
	}

	log := logger.GetLogger("main")
	setLevel, ok := logLevels[*logLevel]
	if !ok {
		return fmt.Errorf("log level %q: expected one of %s", *logLevel, strings.Join(levels, ", "))
	}
	setLevel(log.Logger)
	if *logFile != "" {
		logger.WithFile(log, *logFile)
	}
	if *logNoStdout {
		logger.WithNoStdOutErr(log)
	}

	cfg, err := config.Load(*conf)
	if err != nil {
		return fmt.Errorf("loading the configuration: %w", err)
	}
	for _, p := range stock {
		if err := plugins.RegisterPlugin(p); err != nil {
			return fmt.Errorf("registering plugin %q: %w", p.Name, err)
		}
	}
	// From here on a SIGHUP waits for the server instead of ending the process.
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	srv, err := server.New(cfg, server.Options{Admin: *admin, Control: *control})
	if err != nil {
		return err
	}

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	go func() {
		for range hangup {
			if err := srv.Reload(); err != nil {
				logError("not reloaded", err)
				continue
			}
			log.Info("reloaded")
		}
	}()
	return srv.Run(ctx)
}

// pluginNames lists what a config.yml may name, sorted.
func pluginNames() []string {
	names := server.Registered()
	for _, p := range stock {
		names = append(names, p.Name)
	}
	slices.Sort(names)
	return names
}
