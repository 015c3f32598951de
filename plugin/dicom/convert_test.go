package dicom

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coredns/caddy"
	_ "github.com/coredns/coredns/plugin/dynupdate"

	"github.com/miekg/dns"
)

const keptSeed = seedZone + `Mixed.Case 60 IN A 192.0.2.2
unknown 60 IN TYPE65280 \# 3 010203
a\.b\032c 60 IN TXT "with \"quotes\" and \255" ""
*.wild 60 IN MX 10 www
`

// oldCorefile is a working Corefile of dynupdate. For dicom the word changes.
func oldCorefile(dir, word string, more ...string) string {
	return fmt.Sprintf(`imaging.example.org:0 {
	bind 127.0.0.1
	errors
	tsig {
		secret %s %s
		require_opcode UPDATE
	}
	transfer {
		to *
	}
	%s {
		file %s
		database %s
		allow %s * *
		%s
	}
}
`, key, secret, word, filepath.Join(dir, "zone"), filepath.Join(dir, "db"), key, strings.Join(more, "\n"))
}

// axfr returns all records by transfer, the SOA first, the others sorted.
func (s *server) axfr(t *testing.T) []string {
	t.Helper()
	all, err := s.tryAXFR()
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func (s *server) tryAXFR() ([]string, error) {
	envelopes, err := new(dns.Transfer).In(new(dns.Msg).SetAxfr(domain), s.addr)
	if err != nil {
		return nil, err
	}
	var all []string
	for e := range envelopes {
		err = errors.Join(err, e.Error)
		for _, rr := range e.RR {
			all = append(all, rr.String())
		}
	}
	if len(all) < 3 || all[0] != all[len(all)-1] {
		return nil, errors.Join(err, fmt.Errorf("transfer of %d records does not begin and end with one SOA", len(all)))
	}
	slices.Sort(all[1 : len(all)-1])
	return all, err
}

// made are the databases that the real dynupdate has made, by the number of
// records.
var made = make(map[int]madeDatabase)

type madeDatabase struct {
	file    []byte
	records []string // as transferred
}

// makeOld puts a database of dynupdate with n records more than the seed into
// dir, and returns what it holds.
func makeOld(t *testing.T, dir string, n int) madeDatabase {
	t.Helper()
	write(t, dir, "zone", keptSeed)
	m, ok := made[n]
	if !ok {
		s := start(t, oldCorefile(dir, "dynupdate"))
		const batch = 500
		for at := 0; at < n; at += batch {
			var records []string
			for i := at; i < min(at+batch, n); i++ {
				records = append(records, fmt.Sprintf("h%d.%s 300 IN A 192.0.2.%d", i, domain, i%250+1))
			}
			s.update(t, dns.RcodeSuccess, domain, records...)
		}
		s.update(t, dns.RcodeSuccess, domain, "ct1."+domain+" 60 A 192.0.2.11", "ct1."+domain+" 60 TXT \"a\"",
			"_dicom._tcp."+domain+" 60 PTR CT1._dicom._tcp."+domain, "CT1._dicom._tcp."+domain+" 60 SRV 0 0 104 ct1."+domain,
			"other."+domain+" 60 CNAME ct1."+domain, "ct1."+domain+" 60 DHCID AAIBY2/AuCccgoJbsaxcQc9TUapptP69lOjxfNuVAA2kjEA=")
		s.update(t, dns.RcodeSuccess, domain, "!www."+domain)
		m.records = s.axfr(t)
		s.stop()
		var err error
		if m.file, err = os.ReadFile(filepath.Join(dir, "db")); err != nil {
			t.Fatal(err)
		}
		made[n] = m
	}
	write(t, dir, "db", string(m.file))
	return m
}

// listing is everything in a directory, with mode, time and content.
// A database that a test has left as a killed process would still removes files
// in the background; so what goes while it is listed has it listed again.
func listing(t *testing.T, dir string) string {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; {
		text, err := list(dir)
		if err == nil {
			return text
		}
		if !errors.Is(err, fs.ErrNotExist) || time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

func list(dir string) (string, error) {
	var b strings.Builder
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		var content []byte
		if e.Type().IsRegular() {
			if content, err = os.ReadFile(path); err != nil {
				return err
			}
		}
		fmt.Fprintf(&b, "%s %v %v %x\n", path, info.Mode(), info.ModTime(), content)
		return nil
	})
	return b.String(), err
}

// converted checks what is on disk after a conversion.
func converted(t *testing.T, dir string, old madeDatabase) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	if want := []string{"db", "db.dynupdate-v1", "zone"}; !slices.Equal(names, want) {
		t.Errorf("there is %v, want %v", names, want)
	}
	kept, err := os.ReadFile(filepath.Join(dir, "db.dynupdate-v1"))
	if err != nil || !bytes.Equal(kept, old.file) {
		t.Errorf("the kept file differs: %v", err)
	}
	err = filepath.WalkDir(filepath.Join(dir, "db"), func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil // the running store removes what it has replaced
		}
		if err == nil && info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %v", path, info.Mode())
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

func wantRecords(t *testing.T, s *server, want []string) {
	t.Helper()
	got := s.axfr(t)
	if slices.Equal(got, want) {
		return
	}
	t.Errorf("%d records, want %d", len(got), len(want))
	for _, r := range got {
		if !slices.Contains(want, r) {
			t.Errorf("+ %s", r)
		}
	}
	for _, r := range want {
		if !slices.Contains(got, r) {
			t.Errorf("- %s", r)
		}
	}
}

// TestTakeOver: dynupdate renamed to dicom in a Corefile, and nothing else.
func TestTakeOver(t *testing.T) {
	for _, n := range []int{0, 3000} {
		t.Run(fmt.Sprintf("%d more records", n), func(t *testing.T) {
			dir := t.TempDir()
			old := makeOld(t, dir, n)
			mark := logged.len()
			s := start(t, oldCorefile(dir, "dicom"))
			wantRecords(t, s, old.records)
			converted(t, dir, old)
			if text := logged.since(mark); strings.Count(text, "is converted: zone imaging.example.org. has serial") != 1 {
				t.Errorf("log:\n%s", text)
			}
			s.want(t, "mixed.case."+domain, "A", "192.0.2.2")
			s.want(t, "x.wild."+domain, "MX", "10 www."+domain)
			before := s.serial(t, domain)
			s.update(t, dns.RcodeSuccess, domain, "new."+domain+" 60 A 192.0.2.77")
			if got := s.serial(t, domain); got != before+1 {
				t.Errorf("serial %d after %d", got, before)
			}
			// Through a reload and a restart.
			i, err := s.Restart(input(oldCorefile(dir, "dicom")))
			if err != nil {
				t.Fatal(err)
			}
			s = &server{Instance: i, addr: i.Servers()[0].Addr().String()}
			t.Cleanup(s.stop)
			s.want(t, "new."+domain, "A", "192.0.2.77")
			s.stop()
			s = start(t, oldCorefile(dir, "dicom"))
			s.want(t, "new."+domain, "A", "192.0.2.77")
			if got := s.serial(t, domain); got != before+1 {
				t.Errorf("serial %d after a restart, want %d", got, before+1)
			}
			s.stop()
			converted(t, dir, old)
			if i, err := caddy.Start(input(oldCorefile(dir, "dynupdate"))); err == nil {
				(&server{Instance: i}).stop()
				t.Error("dynupdate starts with the new database")
			}

			// And back, as README.md says.
			if err := os.RemoveAll(filepath.Join(dir, "db")); err != nil {
				t.Fatal(err)
			}
			if err := os.Rename(filepath.Join(dir, "db.dynupdate-v1"), filepath.Join(dir, "db")); err != nil {
				t.Fatal(err)
			}
			s = start(t, oldCorefile(dir, "dynupdate"))
			wantRecords(t, s, old.records)
		})
	}
}

// TestTakeOverNeedsNoSeed: neither a seed that is gone nor a site in its place
// matters.
func TestTakeOverNeedsNoSeed(t *testing.T) {
	dir := t.TempDir()
	makeOld(t, dir, 0)
	if err := os.Remove(filepath.Join(dir, "zone")); err != nil {
		t.Fatal(err)
	}
	s := start(t, oldCorefile(dir, "dicom", "site "+write(t, dir, "site.yaml", siteYAML)))
	s.want(t, "ct1."+domain, "TXT", `"a"`)
	s.want(t, "oldmr."+domain, "A", "192.0.2.20")
}

// TestTakeOverOfOddRRsets: what RFC 2181 section 5 forbids, and dynupdate lets
// through from a zone file.
func TestTakeOverOfOddRRsets(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "zone", seedZone+"odd 60 IN A 192.0.2.1\nodd 90 IN A 192.0.2.2\nodd 90 IN A 192.0.2.2\n")
	s := start(t, oldCorefile(dir, "dynupdate"))
	if got := len(s.axfr(t)); got != 8 {
		t.Fatalf("%d records of dynupdate", got)
	}
	s.stop()
	s = start(t, oldCorefile(dir, "dicom"))
	r := s.query(t, "odd."+domain, "A")
	if len(r.Answer) != 2 || r.Answer[0].Header().Ttl != 90 || r.Answer[1].Header().Ttl != 90 || s.serial(t, domain) != 10 {
		t.Errorf("%v", r)
	}
}

func TestTakeOverThroughLinks(t *testing.T) {
	for _, target := range []string{"real/db", "../real/db"} {
		dir := t.TempDir()
		old := makeOld(t, dir, 0)
		for _, name := range []string{"real", "links"} {
			if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
				t.Fatal(err)
			}
		}
		link := filepath.Join(dir, "link")
		if strings.HasPrefix(target, "..") {
			link = filepath.Join(dir, "links", "link")
		}
		if err := errors.Join(os.Rename(filepath.Join(dir, "db"), filepath.Join(dir, "real", "db")),
			os.Symlink(target, link), os.Symlink(link, filepath.Join(dir, "db"))); err != nil {
			t.Fatal(err)
		}
		end := func(step string) {
			if step == "kept" {
				panic(killed(step))
			}
		}
		cfg := &config{zones: []string{domain}, database: filepath.Join(dir, "db")}
		if !killedAt(cfg, end) {
			t.Fatal("not killed")
		}
		for range 2 {
			s := start(t, oldCorefile(dir, "dicom"))
			wantRecords(t, s, old.records)
			s.stop()
		}
		if info, err := os.Lstat(filepath.Join(dir, "db")); err != nil || info.Mode()&fs.ModeSymlink == 0 {
			t.Errorf("the link is gone: %v", err)
		}
		if kept, err := os.ReadFile(filepath.Join(dir, "real", "db.dynupdate-v1")); err != nil || !bytes.Equal(kept, old.file) {
			t.Errorf("kept: %v", err)
		}
	}
}

type killed string

// killedAt takes over until reached panics, and reports whether it did.
func killedAt(cfg *config, reached func(string)) (dead bool) {
	defer func() {
		if p := recover(); p != nil {
			if _, dead = p.(killed); !dead {
				panic(p)
			}
		}
	}()
	x := cfg.takeover()
	x.reached = reached
	if err := x.run(); err != nil {
		panic(err)
	}
	return false
}

// TestTakeOverIsInterrupted ends it after each step, also a second time after
// each step of what then goes on.
func TestTakeOverIsInterrupted(t *testing.T) {
	steps := []string{"cleared", "built", "verified", "kept", "replaced", "synced", "taken back"}
	reached := make(map[string]int)
	for _, first := range steps[:6] {
		for _, second := range append([]string{""}, steps...) {
			t.Run(first+" then "+second, func(t *testing.T) {
				dir := t.TempDir()
				old := makeOld(t, dir, 0)
				path := filepath.Join(dir, "db")
				cfg := &config{zones: []string{domain}, database: path}
				for _, at := range []string{first, second} {
					if killedAt(cfg, func(step string) {
						if step == at {
							panic(killed(step))
						}
					}) {
						reached[at]++
					}
					file, err := os.ReadFile(path)
					kept, _ := os.ReadFile(path + keptSuffix)
					if (err != nil || !bytes.Equal(file, old.file) || kept != nil) && !bytes.Equal(kept, old.file) {
						t.Fatalf("the old file is nowhere: %v", err)
					}
					before := listing(t, dir)
					if _, err := parse(controller("dicom {\nfile none\ndatabase "+path+"\nallow "+key+" * *\n}", domain)); err != nil {
						t.Errorf("parsing after %q: %v", at, err)
					}
					if listing(t, dir) != before {
						t.Error("parsing has changed something")
					}
				}
				// A leftover may be anything.
				if isDir(path + builtSuffix) {
					write(t, path+builtSuffix, "MANIFEST-000001", "half")
				}
				s := start(t, oldCorefile(dir, "dicom"))
				wantRecords(t, s, old.records)
				converted(t, dir, old)
			})
		}
	}
	for _, step := range steps {
		if reached[step] == 0 {
			t.Errorf("never at %q", step)
		}
	}
}

// TestTakeOverIsKilled ends a process by SIGKILL while it converts.
func TestTakeOverIsKilled(t *testing.T) {
	dir := t.TempDir()
	old := makeOld(t, dir, 3000)
	path := filepath.Join(dir, "db")
	corefile := filepath.Join(t.TempDir(), "Corefile")
	if err := os.WriteFile(corefile, []byte(oldCorefile(dir, "dicom")), 0o600); err != nil {
		t.Fatal(err)
	}
	counts := make(map[string]int)
	for range 20 {
		c := exec.CommandContext(t.Context(), os.Args[0])
		c.Env = append(os.Environ(), corefileEnv+"="+corefile)
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		for range 20_000 {
			if isDir(path+builtSuffix) || isDir(path) {
				break
			}
			time.Sleep(100 * time.Microsecond)
		}
		time.Sleep(rand.N(120 * time.Millisecond))
		if err := c.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
			t.Fatal(err)
		}
		_ = c.Wait() // it was killed
		switch {
		case isRegular(path):
			counts["old"]++
			if file, err := os.ReadFile(path); err != nil || !bytes.Equal(file, old.file) || isRegular(path+keptSuffix) {
				t.Fatalf("the old file is not as it was: %v", err)
			}
		case isDir(path):
			counts["new"]++
			converted(t, dir, old)
		default:
			counts["between"]++
			if !isRegular(path + keptSuffix) {
				t.Fatal("the old file is gone")
			}
		}
		s := start(t, oldCorefile(dir, "dicom"))
		wantRecords(t, s, old.records)
		converted(t, dir, old)
		s.stop()
		if err := errors.Join(os.RemoveAll(path), os.Rename(path+keptSuffix, path)); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("killed at: %v", counts)
}

// TestTakeOverFails where something is in the way: the old file stays.
func TestTakeOverFails(t *testing.T) {
	for _, tt := range []struct {
		name, at, err string
		hinder        func(path string) error
	}{
		{"file in the way of the new database", "", "is not a directory", func(path string) error {
			return os.WriteFile(path+builtSuffix, []byte("mine"), 0o600)
		}},
		{"no room for the old name", "verified", "keeping the old database", func(path string) error {
			return os.Mkdir(path+keptSuffix, 0o700)
		}},
		{"path taken", "kept", "putting the new database in place", func(path string) error {
			return os.WriteFile(path, []byte("other"), 0o600)
		}},
		{"new database lost", "kept", "putting the new database in place", func(path string) error {
			return os.RemoveAll(path + builtSuffix)
		}},
		{"new database unreadable", "built", "converting database", func(path string) error {
			names, err := filepath.Glob(filepath.Join(path+builtSuffix, "*.log"))
			if err != nil || len(names) == 0 {
				return fmt.Errorf("%v: %w", names, err)
			}
			for _, name := range names {
				err = errors.Join(err, os.WriteFile(name, nil, 0o600))
			}
			return err
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			old := makeOld(t, dir, 0)
			path := filepath.Join(dir, "db")
			hinder := func(step string) {
				if step == tt.at {
					if err := tt.hinder(path); err != nil {
						t.Fatal(err)
					}
				}
			}
			hinder("")
			x := (&config{zones: []string{domain}, database: path}).takeover()
			x.reached = hinder
			err := x.run()
			if err == nil || !strings.Contains(err.Error(), tt.err) {
				t.Fatalf("error %v, want %q", err, tt.err)
			}
			if tt.name == "path taken" {
				path += keptSuffix
			}
			if file, err := os.ReadFile(path); err != nil || !bytes.Equal(file, old.file) {
				t.Errorf("the old file is not as it was: %v", err)
			}
		})
	}
}

// TestFailedStartConvertsNothing: not before the whole server has started.
func TestFailedStartConvertsNothing(t *testing.T) {
	dir := t.TempDir()
	makeOld(t, dir, 0)
	before := listing(t, dir)
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	_, port, _ := strings.Cut(busy.Addr().String(), ":")
	for _, more := range []string{
		"example.net:" + port + " {\nbind 127.0.0.1\n}\n", // fails when it listens
		"example.net:0 {\ndicom {\nnonsense\n}\n}\n",      // fails when it is parsed
	} {
		if i, err := caddy.Start(input(oldCorefile(dir, "dicom") + more)); err == nil {
			(&server{Instance: i}).stop()
			t.Fatal("it has started")
		}
	}
	if after := listing(t, dir); after != before {
		t.Error("something has changed")
	}
}

// TestReloadFromDynupdate: an open database cannot be taken over, one that the
// old instance has not opened yet can.
func TestReloadFromDynupdate(t *testing.T) {
	dir := t.TempDir()
	makeOld(t, dir, 0)
	s := start(t, oldCorefile(dir, "dynupdate"))
	serial := s.serial(t, domain) // which opens it
	if _, err := s.Restart(input(oldCorefile(dir, "dicom"))); err == nil || !strings.Contains(err.Error(), "is in use: stop the CoreDNS") {
		t.Fatalf("reload: %v", err)
	}
	s.update(t, dns.RcodeSuccess, domain, "still."+domain+" 60 A 192.0.2.78")
	if got := s.serial(t, domain); got != serial+1 {
		t.Errorf("serial %d", got)
	}
	s.stop()

	dir = t.TempDir()
	old := makeOld(t, dir, 0)
	s = start(t, oldCorefile(dir, "dynupdate"))
	// CoreDNS does not end a server that has not begun to serve: it would go on beside the new one. So it is asked, but
	// not for the zone, which would open the database.
	if _, _, err := (&dns.Client{Net: "tcp", Timeout: patience}).Exchange(new(dns.Msg).SetQuestion("example.net.", dns.TypeSOA), s.addr); err != nil {
		t.Fatal(err)
	}
	i, err := s.Restart(input(oldCorefile(dir, "dicom")))
	if err != nil {
		t.Fatal(err)
	}
	s = &server{Instance: i, addr: i.Servers()[0].Addr().String()}
	t.Cleanup(s.stop)
	// The server that ends accepts one connection more. On a busy machine that may be the one that asks: then its
	// dynupdate opens the database, and never closes it. So nobody asks before it is taken over.
	deadline := time.Now().Add(patience)
	for path := filepath.Join(dir, "db"); !isDir(path) && time.Now().Before(deadline); {
		time.Sleep(10 * time.Millisecond)
	}
	got, err := s.tryAXFR()
	for ; (err != nil || !slices.Equal(got, old.records)) && time.Now().Before(deadline); got, err = s.tryAXFR() {
		time.Sleep(10 * time.Millisecond)
	}
	if err != nil || !slices.Equal(got, old.records) {
		t.Errorf("not the same records: %v", err)
	}
	converted(t, dir, old)
}

// TestTakeOverOnce: instances that overlap find one of them doing it.
func TestTakeOverOnce(t *testing.T) {
	dir := t.TempDir()
	old := makeOld(t, dir, 3000)
	mark := logged.len()
	var tasks sync.WaitGroup
	for range 8 {
		d := newDicom(&config{zones: []string{domain}, seed: filepath.Join(dir, "zone"), database: filepath.Join(dir, "db")})
		t.Cleanup(func() { closeDicom(t, d) })
		tasks.Go(func() {
			if _, err := d.takeover().check(); err != nil {
				t.Error(err)
			}
			if err := d.start(); err != nil {
				t.Error(err)
				return
			}
			if z := d.zones[domain].zone.Load(); z.Snapshot().Len() != len(old.records)-1 {
				t.Errorf("%d records", z.Snapshot().Len())
			}
		})
	}
	tasks.Wait()
	if n := strings.Count(logged.since(mark), "is converted"); n != 1 {
		t.Errorf("converted %d times", n)
	}
	converted(t, dir, old)
}
