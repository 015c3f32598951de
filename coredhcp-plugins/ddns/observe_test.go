package ddns

import (
	"errors"
	"net"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/dicomnam/dicomnam/coredhcp-plugins/server"
)

// commit is one whose fate a test decides.
type commit struct{ calls []func(error) }

func (c *commit) Then(f func(error)) { c.calls = append(c.calls, f) }

// The reply of another plugin leaves whatever becomes of the database of names, once, and soon.
func TestPassing(t *testing.T) {
	for name, fate := range map[string]struct {
		err   error
		after time.Duration // 0: never
	}{
		"written":   {nil, time.Millisecond},
		"failed":    {errors.New("no space left on device"), time.Millisecond},
		"slow":      {nil, time.Hour},
		"no answer": {nil, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := new(commit)
				left := make(chan error, 2)
				begin := time.Now()
				passing{c}.Then(func(err error) {
					left <- err
					if d := time.Since(begin); d > longestHold {
						t.Errorf("it left after %s", d)
					}
				})
				synctest.Wait()
				if len(left) > 0 {
					t.Error("it left before anything was known")
				}
				if fate.after != 0 {
					time.Sleep(fate.after)
					for _, f := range c.calls {
						f(fate.err)
					}
				}
				time.Sleep(2 * longestHold)
				if len(left) != 1 {
					t.Fatalf("it left %d times", len(left))
				}
				if err := <-left; err != nil {
					t.Errorf("it left as %v", err)
				}
			})
		})
	}
	if c := new(commit); (passing{c}) != (passing{c}) {
		t.Error("replies that wait for one commit are not sent together")
	}
}

// A database that takes nothing costs no client its answer, and is told of.
func TestDatabaseThatFails(t *testing.T) {
	keys, _ := keyFile(t)
	p, err := New([]string{"site=" + siteFile(t, ""), "server=127.0.0.1:1", "keys=" + keys, "key=" + keyName, "database=" + filepath.Join(t.TempDir(), "names")}, new(server.Host))
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	d := p.(*DDNS)
	if err := d.running.Load().leases.Close(); err != nil {
		t.Fatal(err)
	}
	req, err := dhcpv4.New(dhcpv4.WithMessageType(dhcpv4.MessageTypeRequest), dhcpv4.WithHwAddr(net.HardwareAddr{0x00, 0x00, 0x5e, 0x00, 0x53, 0x07}))
	if err != nil {
		t.Fatal(err)
	}
	reply, err := dhcpv4.NewReplyFromRequest(req, dhcpv4.WithMessageType(dhcpv4.MessageTypeAck), dhcpv4.WithYourIP(net.IPv4(192, 0, 2, 7)), dhcpv4.WithLeaseTime(3600))
	if err != nil {
		t.Fatal(err)
	}
	x := &server.Exchange{Request: req, Reply: reply}
	if v := d.Handle(t.Context(), x); v != server.Continue || x.Reply != reply {
		t.Errorf("%v, %v", v, x.Reply)
	}
	if n := d.unnoted.Load(); n != 1 {
		t.Errorf("%d counted", n)
	}
}
