package nameupdate

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"

	"github.com/dicomnam/dicomnam/plugin/pkg/tsigkey"
)

const otherSecret = "b3RoZXIgc2VjcmV0IG9mIHRoZSBzYW1lIG5hbWU="

// keyFile is a key file and a server's idea of the key.
type keyFile struct {
	mu     sync.Mutex
	key    tsigkey.Key
	err    error
	served string // secret
	reads  int
	asked  int
}

func (f *keyFile) read() ([]ZoneKey, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.reads++
	return []ZoneKey{{".", f.key}}, f.err
}

func (f *keyFile) holds(key tsigkey.Key, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.key, f.err = key, err
}

func (f *keyFile) serve(secret string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.served = secret
}

// counts are since it was asked last.
func (f *keyFile) counts() (reads, asked int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	reads, asked = f.reads, f.asked
	f.reads, f.asked = 0, 0
	return reads, asked
}

// keyed is a server as it answers to one key.
type keyed struct {
	*directory
	key    tsigkey.Key
	file   *keyFile
	refuse func(m *dns.Msg) (*dns.Msg, error)
}

func (k *keyed) exchange(ctx context.Context, m *dns.Msg) (*dns.Msg, error) {
	k.file.mu.Lock()
	k.file.asked++
	known := k.file.served == k.key.Secret()
	k.file.mu.Unlock()
	time.Sleep(roundTrip)
	if !known {
		return k.refuse(m)
	}
	return k.directory.exchange(ctx, m)
}

func refuseWith(code uint16) func(*dns.Msg) (*dns.Msg, error) {
	return func(*dns.Msg) (*dns.Msg, error) {
		return nil, &keyError{server: "192.0.2.2:53", key: "dhcp.example.org.", code: code}
	}
}

// keyedWorker runs a worker whose one server takes the key of secret.
func keyedWorker(t *testing.T, refuse func(*dns.Msg) (*dns.Msg, error)) (*bench, *keyFile) {
	t.Helper()
	f := &keyFile{key: testKey(t, "dhcp.example.org", "", secret), served: secret}
	b := &bench{queue: newFakeQueue(), log: new(logBuffer)}
	d := &directory{zones: []string{"example.org.", "192.in-addr.arpa."}}
	keys, err := f.read()
	if err != nil {
		t.Fatal(err)
	}
	b.Worker = newWorker(Config{Logger: slog.New(slog.NewTextHandler(b.log, nil)), ReadKeys: f.read}.withDefaults(), b.queue, &routes{
		routes: []Route{{".", []string{"192.0.2.2:53"}}}, keys: keys, made: make(map[string]*upstream),
		dial: func(_ string, key tsigkey.Key, _ bool) exchanger { return &keyed{d, key, f, refuse} },
	})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- b.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		for _, s := range []string{secret, otherSecret} {
			if b.lines(s) > 0 {
				t.Errorf("a secret is logged:\n%s", b.log)
			}
		}
	})
	return b, f
}

// A refusal has the keys read again before the next try, however it is told, and not more often than need be.
func TestKeysReadWhenRefused(t *testing.T) {
	for name, refuse := range map[string]func(*dns.Msg) (*dns.Msg, error){
		"BADSIG": refuseWith(dns.RcodeBadSig),
		"BADKEY": refuseWith(dns.RcodeBadKey),
		"unsigned NOTAUTH": func(m *dns.Msg) (*dns.Msg, error) {
			return new(dns.Msg).SetRcode(m, dns.RcodeNotAuth), nil
		},
		"unsigned REFUSED": func(m *dns.Msg) (*dns.Msg, error) {
			return new(dns.Msg).SetRcode(m, dns.RcodeRefused), nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b, f := keyedWorker(t, refuse)
				b.queue.put(numbered(0, 100, "example.org.")...)
				time.Sleep(time.Second)
				b.expect(t, 0, 100)
				if reads, _ := f.counts(); reads != 1 {
					t.Errorf("the keys were read %d times while all was well", reads)
				}

				f.serve(otherSecret)
				b.queue.put(numbered(100, 400, "example.org.")...)
				const while = 10 * time.Minute
				time.Sleep(while)
				if _, _, done := b.queue.state(); done != 100 {
					t.Errorf("%d changes are done with the old key", done)
				}
				reads, asked := f.counts()
				if reads == 0 || reads > int(while/pollEvery)+asked || reads > int(while/rereadAfter) {
					t.Errorf("the keys were read %d times in %d exchanges", reads, asked)
				}
				if n := b.lines("new key"); n != 0 {
					t.Errorf("%d lines of a new key:\n%s", n, b.log)
				}

				f.holds(testKey(t, "dhcp.example.org", "hmac-sha512", otherSecret), nil)
				time.Sleep(5 * pollEvery) // no change waits for a pause of the old key to end
				b.expect(t, 0, 500)
				if n := b.lines("updates are signed with a new key"); n != 1 || b.lines("dhcp.example.org. (hmac-sha512)") != 1 {
					t.Errorf("%d lines of a new key:\n%s", n, b.log)
				}
			})
		})
	}
}

// A change that has failed for long is under way when a new key comes. Its answer is to the old one, and it is tried again soon.
func TestKeyComesMeanwhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, f := keyedWorker(t, func(m *dns.Msg) (*dns.Msg, error) {
			time.Sleep(10 * time.Second)
			return new(dns.Msg).SetRcode(m, dns.RcodeRefused), nil
		})
		b.queue.put(numbered(0, 1, "example.org.")...)
		time.Sleep(time.Second)
		b.expect(t, 0, 1)
		f.serve(otherSecret)
		b.queue.put(numbered(1, 1, "example.org.")...)
		time.Sleep(10 * time.Minute)
		for begin := time.Now(); ; time.Sleep(time.Second) {
			if _, taken, _ := b.queue.state(); taken == 1 {
				break
			}
			if time.Since(begin) > 2*maxBackoff {
				t.Fatal("the change is not tried any more")
			}
		}
		f.holds(testKey(t, "dhcp.example.org", "", otherSecret), nil)
		if err := b.ReadKeys(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10*time.Second + 5*pollEvery)
		b.expect(t, 0, 2)
	})
}

// The clock is no reason to read the keys.
func TestKeysNotReadForTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, f := keyedWorker(t, refuseWith(dns.RcodeBadTime))
		f.counts()
		f.serve(otherSecret)
		b.queue.put(numbered(0, 10, "example.org.")...)
		time.Sleep(10 * time.Minute)
		if reads, asked := f.counts(); reads != 0 || asked == 0 {
			t.Errorf("the keys were read %d times in %d exchanges", reads, asked)
		}
	})
}

// A file that cannot be read changes nothing, is told of once, and is read when it is whole.
func TestKeysUnreadable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, f := keyedWorker(t, refuseWith(dns.RcodeBadSig))
		broken := errors.New("tsig.keys:3: the secret is empty")
		f.holds(testKey(t, "dhcp.example.org", "", otherSecret), broken)
		if err := b.ReadKeys(); !errors.Is(err, broken) {
			t.Errorf("error = %v, want %v", err, broken)
		}
		b.queue.put(numbered(0, 10, "example.org.")...)
		time.Sleep(time.Second)
		b.expect(t, 0, 10) // with the key from before

		f.holds(tsigkey.Key{}, errors.New("tsig.keys:4: another error"))
		f.serve(otherSecret)
		b.queue.put(numbered(10, 10, "example.org.")...)
		time.Sleep(10 * time.Minute)
		if n := b.lines("another error"); n != 1 {
			t.Errorf("%d lines of the error:\n%s", n, b.log)
		}
		if _, _, done := b.queue.state(); done != 10 {
			t.Errorf("%d changes are done", done)
		}
		f.holds(testKey(t, "dhcp.example.org", "", otherSecret), nil)
		time.Sleep(3 * maxBackoff)
		b.expect(t, 0, 20)
	})
}

// ReadKeys has a server tried at once that has refused the key for long.
func TestKeysReadOnDemand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, f := keyedWorker(t, refuseWith(dns.RcodeBadSig))
		f.serve(otherSecret)
		b.queue.put(numbered(0, 10, "example.org.")...)
		time.Sleep(10 * time.Minute)
		f.holds(testKey(t, "dhcp.example.org", "", otherSecret), nil)
		if err := b.ReadKeys(); err != nil {
			t.Fatal(err)
		}
		b.queue.put(numbered(10, 1, "example.org.")...)
		time.Sleep(2 * pollEvery)
		b.expect(t, 0, 11)
	})
}

// An exchange under way ends with the key it began with; the next one has the new key.
func TestKeyOfExchange(t *testing.T) {
	began, other := testKey(t, "dhcp.example.org", "", secret), testKey(t, "dhcp.example.org", "", otherSecret)
	made := make(chan *Worker, 1)
	var expected atomic.Value // secret
	expected.Store(secret)
	p := startPeer(t, func(q request) [][]byte {
		if q.n == 0 { // lost, and the key is replaced meanwhile
			if err := (<-made).ReadKeys(); err != nil {
				t.Error(err)
			}
			return nil
		}
		return [][]byte{answer(t, q, dns.RcodeSuccess, expected.Load().(string), nil)}
	})
	w := New(Config{
		Routes: []Route{{".", []string{p.addr}}}, Keys: []ZoneKey{{".", began}}, Timeout: 500 * time.Millisecond, Tries: 20,
		ReadKeys: func() ([]ZoneKey, error) { return []ZoneKey{{".", other}}, nil },
	}, newFakeQueue())
	made <- w
	defer w.routes.close()
	u, err := w.routes.of(t.Context(), "pc1.imaging.example.org.")
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if r, err := u.exchange(t.Context(), update()); err != nil || r.Rcode != dns.RcodeSuccess {
			t.Errorf("%v, %v", r, err)
		}
		expected.Store(otherSecret)
	}
	if again, err := w.routes.of(t.Context(), "pc2.imaging.example.org."); err != nil || again != u {
		t.Errorf("another upstream with the new key: %v, %v", again, err)
	}
}

// Only what the new keys change is dialled anew.
func TestRekey(t *testing.T) {
	all, org := testKey(t, "all.", "", secret), testKey(t, "org.", "", secret)
	r := &routes{
		routes: []Route{{".", []string{"192.0.2.2:53"}}}, keys: []ZoneKey{{".", all}, {"example.org.", org}, {"example.net.", org}}, made: make(map[string]*upstream),
		dial: func(server string, key tsigkey.Key, _ bool) exchanger { return &client{server: server, key: key} },
	}
	servers := func() string {
		var secrets []string
		for _, name := range []string{"pc.example.", "pc.example.org.", "pc.example.net."} {
			u, err := r.of(t.Context(), name)
			if err != nil {
				t.Fatal(err)
			}
			secrets = append(secrets, u.servers[0].(*client).key.Secret())
		}
		return strings.Join(secrets, " ")
	}
	if got := servers(); got != secret+" "+secret+" "+secret {
		t.Error(got)
	}
	kept, err := r.of(t.Context(), "pc.example.")
	if err != nil {
		t.Fatal(err)
	}
	before := kept.servers[0]
	other := testKey(t, "org.", "", otherSecret)
	keys := []ZoneKey{{".", all}, {"example.org.", other}, {"example.net.", other}}
	if changed := r.rekey(keys); len(changed) != 1 || changed[0].Name != "org." {
		t.Errorf("changed: %v", changed)
	}
	if got := servers(); got != secret+" "+otherSecret+" "+otherSecret || kept.servers[0] != before {
		t.Error(got)
	}
	if changed := r.rekey(keys); len(changed) != 0 {
		t.Errorf("changed: %v", changed)
	}
}
