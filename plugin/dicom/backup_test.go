package dicom

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coredns/caddy"
	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

func TestParseBackup(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	write(t, dir, "site.yaml", siteYAML)
	write(t, dir, "file", "")
	if err := os.Mkdir("here", 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("here", "link"); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		lines, err string // "": none
		want       backupConfig
	}{
		{"database zones\nbackup copies", "", backupConfig{filepath.Join(dir, "copies"), 24 * time.Hour}},
		{"database zones\nbackup /var/copies 90m", "", backupConfig{"/var/copies", 90 * time.Minute}},
		{"backup . 1m\ndatabase zones", "", backupConfig{dir, time.Minute}},
		{"database zones\nbackup", "Testfile:4 - Error during parsing: Wrong argument count", backupConfig{}},
		{"database zones\nbackup a 1h 2h", "Wrong argument count", backupConfig{}},
		{"database zones\nbackup \"\" 1h", `expected "backup DIR [INTERVAL]"`, backupConfig{}},
		{"database zones\nbackup a daily", `Testfile:4 - Error during parsing: backup interval "daily" is no duration`, backupConfig{}},
		{"database zones\nbackup a 59s", `backup interval "59s" is shorter than 1m`, backupConfig{}},
		{"database zones\nbackup a -1h", `backup interval "-1h" is shorter`, backupConfig{}},
		{"database zones\nbackup a\nbackup b", "Testfile:5 - Error during parsing: backup specified more than once", backupConfig{}},
		{"backup copies", "backup requires database", backupConfig{}},
		{"database zones\nbackup zones", "is within database", backupConfig{}},
		{"database zones\nbackup zones/copies", "is within database", backupConfig{}},
		{"database here\nbackup link/copies", "is within database", backupConfig{}},
		{"database zones\nbackup zones2", "", backupConfig{filepath.Join(dir, "zones2"), 24 * time.Hour}},
		{"database here/20260102T030405Z\nbackup link", "is one of the backups", backupConfig{}},
		{"database here/20261302T030405Z\nbackup here", "", backupConfig{filepath.Join(dir, "here"), 24 * time.Hour}},
		{"database zones\nbackup file", `is a file, and has to be a directory`, backupConfig{}},
	} {
		t.Run(tt.lines, func(t *testing.T) {
			cfg, err := parse(controller("dicom {\nsite site.yaml\n"+tt.lines+"\n}", domain))
			if tt.err == "" {
				if err != nil {
					t.Fatal(err)
				}
				if *cfg.backup != tt.want {
					t.Errorf("%+v, want %+v", *cfg.backup, tt.want)
				}
			} else if err == nil || !strings.Contains(err.Error(), tt.err) {
				t.Errorf("error %v, want %q", err, tt.err)
			}
		})
	}
	if _, err := os.Stat("copies"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("parsing has made the directory: %v", err)
	}
}

// oftener lets a Corefile ask for backups each second.
func oftener(t *testing.T) {
	t.Helper()
	least := minBackupInterval
	t.Cleanup(func() { minBackupInterval = least })
	minBackupInterval = time.Second
}

func names(t *testing.T, dir string) (all []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	for _, e := range entries {
		all = append(all, e.Name())
	}
	return all
}

// TestBackupAndRestore: while clients update, a backup is made; a server that
// starts with a copy of it has every update that was acknowledged before the
// backup was begun, and goes on.
func TestBackupAndRestore(t *testing.T) {
	oftener(t)
	dir := t.TempDir()
	copies := filepath.Join(dir, "copies")
	if err := os.Mkdir(copies, 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, copies, "notes", "not ours")
	for _, name := range []string{"other", "20200101T000000Z", "20200102T000000Z", "20200103T000000Z.partial", "20200103T000000Z.old"} {
		if err := os.Mkdir(filepath.Join(copies, name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	path := write(t, dir, "site.yaml", siteYAML)
	corefile := func(database string) string {
		return block(fmt.Sprintf("site %s\ndatabase %s\nbackup %s 1s\nallow %s * *", path, database, copies, key), "transfer {\n\tto *\n}")
	}
	s := start(t, corefile(filepath.Join(dir, "zones")))

	type ack struct {
		n  int
		at time.Time
	}
	var mu sync.Mutex
	var acks []ack
	quit := make(chan struct{})
	var wg sync.WaitGroup
	for c := range 8 {
		wg.Go(func() {
			for i := c; ; i += 8 {
				select {
				case <-quit:
					return
				default:
				}
				s.update(t, dns.RcodeSuccess, domain, fmt.Sprintf("a%d.imaging.example.org. 300 A 192.0.2.1", i), fmt.Sprintf("b%d.imaging.example.org. 300 A 192.0.2.2", i))
				mu.Lock()
				acks = append(acks, ack{i, time.Now()})
				mu.Unlock()
			}
		})
	}
	var made []string
	eventually(t, "three backups", func() bool {
		for _, name := range names(t, copies) {
			if _, is := backupOf(name); is && !strings.HasPrefix(name, "2020") && !slices.Contains(made, name) {
				made = append(made, name)
			}
		}
		return len(made) == 3
	})
	acknowledged := func() int {
		mu.Lock()
		defer mu.Unlock()
		return len(acks)
	}
	before := acknowledged()
	eventually(t, "updates after the last backup", func() bool { return acknowledged() > before+8 })
	close(quit)
	wg.Wait()
	if n := testutil.ToFloat64(backups.WithLabelValues(filepath.Join(dir, "zones"), success)); n < 3 {
		t.Errorf("%v backups counted", n)
	}
	s.stop()
	if got := names(t, copies); !slices.Contains(got, made[2]) || len(got) != 5 ||
		!slices.Contains(got, "notes") || !slices.Contains(got, "other") || !slices.Contains(got, "20200103T000000Z.old") {
		t.Errorf("left are %v, made were %v", got, made)
	}
	info, err := os.Stat(filepath.Join(copies, made[2]))
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("%v, %v", info, err)
	}

	// The restore: stop, put the copy where database points, start.
	if err := os.Rename(filepath.Join(dir, "zones"), filepath.Join(dir, "lost")); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(filepath.Join(dir, "zones"), os.DirFS(filepath.Join(copies, made[2]))); err != nil {
		t.Fatal(err)
	}
	begun, _ := backupOf(made[2])
	s = start(t, corefile(filepath.Join(dir, "zones")))
	all, err := transferIn(s.address("tcp"), new(dns.Msg).SetAxfr(domain), true)
	if err != nil {
		t.Fatal(err)
	}
	there := make(map[string]bool)
	for _, rr := range all {
		there[rr.Header().Name] = true
	}
	sure, restored := 0, 0
	for _, a := range acks {
		first, second := there[fmt.Sprintf("a%d.imaging.example.org.", a.n)], there[fmt.Sprintf("b%d.imaging.example.org.", a.n)]
		if first != second {
			t.Errorf("half of update %d", a.n)
		}
		if first {
			restored++
		}
		if a.at.Before(begun) {
			if sure++; !first {
				t.Errorf("update %d, acknowledged %v before the backup, is lost", a.n, begun.Sub(a.at))
			}
		}
	}
	t.Logf("%d updates, %d acknowledged before the backup, %d restored", len(acks), sure, restored)
	if sure == 0 || restored == len(acks) {
		t.Error("the backup was not made under load")
	}
	s.update(t, dns.RcodeSuccess, domain, "after.imaging.example.org. 300 A 192.0.2.1")
	s.want(t, "OLDMR._dicom._tcp."+domain, "SRV", "0 0 104 oldmr."+domain)
}

// TestBackupsOfTwoBlocks: blocks that share a store share its backups, and none
// comes before its time, neither after a restart nor after a reload.
func TestBackupsOfTwoBlocks(t *testing.T) {
	dir := t.TempDir()
	path := write(t, dir, "site.yaml", siteYAML)
	copies := filepath.Join(dir, "copies")
	one := func(database, copies string) string {
		return fmt.Sprintf("\tdicom {\n\t\tsite %s\n\t\tdatabase %s\n\t\tbackup %s 1h\n\t}\n}\n", path, filepath.Join(dir, database), copies)
	}
	const a, b = "imaging.example.org:0 {\n\tbind 127.0.0.1\n", "192.0.2.0/24:0 {\n\tbind 127.0.0.2\n"
	s := start(t, a+one("zones", copies)+b+one("zones", copies))
	eventually(t, "a backup", func() bool { return len(names(t, copies)) == 1 })
	i, err := s.Restart(input(string(s.Caddyfile().Body())))
	if err != nil {
		t.Fatal(err)
	}
	s.Instance = i
	s.stop()
	s = start(t, a+one("zones", copies)+b+one("zones", copies))
	time.Sleep(1200 * time.Millisecond)
	if got := names(t, copies); len(got) != 1 {
		t.Errorf("backups %v", got)
	}
	s.stop()
	if _, err := caddy.Start(input(a + one("zones", copies) + b + one("more", copies))); err == nil || !strings.Contains(err.Error(), "each database needs a directory of its own") {
		t.Errorf("two databases: %v", err)
	}
}

// TestBackupFails: it is logged and counted, tried again, and harms nothing.
func TestBackupFails(t *testing.T) {
	oftener(t)
	dir := t.TempDir()
	mark := logged.len()
	copies := filepath.Join(dir, "none", "copies")
	database := filepath.Join(dir, "zones")
	s := start(t, block(fmt.Sprintf("site %s\ndatabase %s\nbackup %s 1s\nallow %s * *", write(t, dir, "site.yaml", siteYAML), database, copies, key)))
	eventually(t, "a failure", func() bool { return testutil.ToFloat64(backups.WithLabelValues(database, failure)) > 0 })
	s.update(t, dns.RcodeSuccess, domain, "x.imaging.example.org. 300 A 192.0.2.1")
	if text := logged.since(mark); !strings.Contains(text, "Backup to "+copies+": ") {
		t.Errorf("not in the log:\n%s", text)
	}
	if err := os.Mkdir(filepath.Join(dir, "none"), 0o700); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a backup", func() bool {
		return len(names(t, copies)) == 1 && testutil.ToFloat64(backups.WithLabelValues(database, success)) > 0
	})
	if testutil.ToFloat64(backupTime.WithLabelValues(database)) < 1e9 {
		t.Error("no time of the backup")
	}
	s.stop()
	if n := testutil.CollectAndCount(backups); n != 0 {
		t.Errorf("%d series are left", n)
	}
}

// TestBackupHangs: one that does not end holds up neither the end of its server
// nor the backups of another database.
func TestBackupHangs(t *testing.T) {
	b := &backupConfig{dir: t.TempDir(), interval: time.Hour}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if b.await(ctx, make(chan struct{}), nil) {
		t.Error("it has ended")
	}
	dir := t.TempDir()
	write(t, dir, "zone", seedZone)
	turn := backupTurn(filepath.Join(dir, "one"))
	turn <- struct{}{}
	defer func() { <-turn }()
	oftener(t)
	for _, name := range []string{"one", "two"} {
		start(t, strings.Replace(block(fmt.Sprintf("file %s\ndatabase %s\nbackup %s 1s\nallow %s * *", filepath.Join(dir, "zone"), filepath.Join(dir, name),
			filepath.Join(dir, name+"-copies"), key)), " 192.0.2.0/24:0", "", 1))
	}
	eventually(t, "a backup of the other database", func() bool { return len(names(t, filepath.Join(dir, "two-copies"))) > 0 })
	if _, err := os.Stat(filepath.Join(dir, "one-copies")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a backup whose turn it is not: %v", err)
	}
}
