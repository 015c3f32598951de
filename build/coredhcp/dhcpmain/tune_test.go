package dhcpmain

import (
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"strings"
	"testing"
)

// TestTune runs tune in a process of its own for each environment.
func TestTune(t *testing.T) {
	const child = "COREDHCP_TEST_TUNE"
	if os.Getenv(child) != "" {
		tune()
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		t.Logf("procs=%d percent=%d late=%t", runtime.GOMAXPROCS(0), debug.SetGCPercent(-1), m.NextGC >= collectFrom)
		return
	}
	for env, want := range map[string]string{
		"":                 "procs=1 percent=150 late=true",
		"GOMAXPROCS=2":     "procs=2 percent=150 late=true",
		"GOGC=50":          "procs=1 percent=50 late=false",
		"GOMEMLIMIT=64MiB": "procs=1 percent=100 late=false",
	} {
		cmd := exec.Command(os.Args[0], "-test.run=^TestTune$", "-test.v")
		cmd.Env = append(cmd.Environ(), "GOMAXPROCS=", "GOGC=", "GOMEMLIMIT=", child+"=1", env)
		out, err := cmd.CombinedOutput()
		if err != nil || !strings.Contains(string(out), want) {
			t.Errorf("%s: %v, want %q\n%s", env, err, want, out)
		}
	}
}
