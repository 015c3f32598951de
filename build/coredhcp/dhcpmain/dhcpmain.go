// Package dhcpmain runs CoreDHCP as the coredhcp programs of this module do: by our
// own serve loop, or by CoreDHCP's. What is in a program is its main's choice.
package dhcpmain

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"strings"
	"syscall"

	"github.com/coredhcp/coredhcp/config"
	"github.com/coredhcp/coredhcp/logger"
	"github.com/coredhcp/coredhcp/plugins"
	stock "github.com/coredhcp/coredhcp/server"
	"github.com/sirupsen/logrus"
	flag "github.com/spf13/pflag"

	"github.com/dicomnam/dicomnam/coredhcp-plugins/server"
)

// A Program is what differs from one coredhcp to the next.
type Program struct {
	Plugins   []*plugins.Plugin // those of CoreDHCP's form; ours register themselves with the server
	Stock     bool              // CoreDHCP's own server, which knows Plugins alone
	BuiltFrom string            // what --version prints, whole lines; "": nothing is known
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

// Run is the main function of a coredhcp. It does not return while the server runs.
func Run(p Program) {
	if !p.Stock {
		tune()
	}
	if err := p.run(); err != nil {
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
func (p Program) run() error {
	levels := make([]string, 0, len(logLevels))
	for name := range logLevels {
		levels = append(levels, name)
	}
	slices.Sort(levels)

	logFile := flag.StringP("logfile", "l", "", "Name of the log file to append to. Default: stdout/stderr only")
	logNoStdout := flag.BoolP("nostdout", "N", false, "Disable logging to stdout/stderr")
	logLevel := flag.StringP("loglevel", "L", "info", "Log level. One of "+strings.Join(levels, ", "))
	conf := flag.StringP("conf", "c", "", "Use this configuration file instead of the default location")
	list := flag.BoolP("plugins", "P", false, "list plugins")
	version := flag.Bool("version", false, "Say what this program was built from")
	var options server.Options
	if !p.Stock {
		flag.StringVar(&options.Admin, "admin", "", "Serve /metrics, /health and /ready at this address, such as 127.0.0.1:9567. Default: nowhere")
		flag.StringVar(&options.Control, "control", "", "Take commands at this Unix socket, such as /run/dicomnam/coredhcp.sock. Default: none")
	}
	flag.Parse()
	if flag.NArg() > 0 {
		return fmt.Errorf("argument %q: expected flags only", flag.Arg(0))
	}

	if *version {
		fmt.Printf("CoreDHCP\n%s/%s, %s\n%s", runtime.GOOS, runtime.GOARCH, runtime.Version(), p.BuiltFrom)
		return nil
	}
	if *list {
		for _, name := range p.names() {
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
	for _, plugin := range p.Plugins {
		if err := plugins.RegisterPlugin(plugin); err != nil {
			return fmt.Errorf("registering plugin %q: %w", plugin.Name, err)
		}
	}
	if p.Stock {
		srv, err := stock.Start(cfg)
		if err != nil {
			return err
		}
		return srv.Wait()
	}
	// From here on a SIGHUP waits for the server instead of ending the process.
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	srv, err := server.New(cfg, options)
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

// names lists what a config.yml may name, sorted.
func (p Program) names() []string {
	var names []string
	if !p.Stock {
		names = server.Registered()
	}
	for _, plugin := range p.Plugins {
		names = append(names, plugin.Name)
	}
	slices.Sort(names)
	return names
}
