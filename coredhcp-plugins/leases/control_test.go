package leases

import (
	"context"
	"encoding/json"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"golang.org/x/sys/unix"

	"github.com/dicomnam/dicomnam/coredhcp-plugins/pkg/control"
	"github.com/dicomnam/dicomnam/coredhcp-plugins/pkg/lease"
)

// controlled is a running plugin on a database in dir, and the path of a control
// socket that has its commands.
func controlled(t *testing.T, dir string) (*Leases, string) {
	t.Helper()
	l := start(t, dir)
	s := control.NewServer()
	for command, h := range l.commands() {
		s.Handle(command, h)
	}
	s.Handle(control.Plan, l.plan)
	path := filepath.Join(t.TempDir(), "control.sock")
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, path) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	for late := time.Now().Add(patience); time.Now().Before(late); time.Sleep(time.Millisecond) {
		if _, err := os.Lstat(path); err == nil {
			return l, path
		}
	}
	t.Fatal("no socket")
	return nil, ""
}

// call asks for items of type T.
func call[T any](t *testing.T, path, command string, args any) (items []T, err error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	err = control.Call(ctx, path, command, args, func(item json.RawMessage) error {
		var v T
		if err := json.Unmarshal(item, &v); err != nil {
			return err
		}
		items = append(items, v)
		return nil
	})
	return items, err
}

// obtain takes a lease for the client, by DISCOVER and REQUEST.
func obtain(t *testing.T, l *Leases, client byte, modifiers ...dhcpv4.Modifier) netip.Addr {
	t.Helper()
	offer := send(t, l, dhcpv4.MessageTypeDiscover, client, modifiers...)
	if offer == nil {
		t.Fatalf("no offer for client %d", client)
	}
	ack := send(t, l, dhcpv4.MessageTypeRequest, client, append(modifiers, selecting(offer)...)...)
	if ack == nil || ack.MessageType() != dhcpv4.MessageTypeAck {
		t.Fatalf("no ack for client %d: %v", client, ack)
	}
	a, _ := netip.AddrFromSlice(ack.YourIPAddr.To4())
	return a
}

var relayedToCardiology = dhcpv4.WithGatewayIP(net.IPv4(198, 51, 100, 1))

func TestControlLeases(t *testing.T) {
	l, path := controlled(t, filepath.Join(t.TempDir(), "leases"))
	ct1 := obtain(t, l, 1)
	guest := obtain(t, l, 2, dhcpv4.WithOption(dhcpv4.OptClientIdentifier([]byte{0, 'x', 0xff})))
	other := obtain(t, l, 3, relayedToCardiology)
	gone := obtain(t, l, 4, relayedToCardiology)
	send(t, l, dhcpv4.MessageTypeRelease, 4, relayedToCardiology, dhcpv4.WithClientIP(gone.AsSlice()),
		dhcpv4.WithOption(dhcpv4.OptServerIdentifier(serverID.AsSlice())))

	tests := []struct {
		name   string
		filter control.Filter
		want   []netip.Addr
		err    string
	}{
		{"all", control.Filter{}, []netip.Addr{ct1, guest, other, gone}, ""},
		{"network", control.Filter{Network: "cardiology"}, []netip.Addr{other, gone}, ""},
		{"state", control.Filter{State: control.Released}, []netip.Addr{gone}, ""},
		{"device", control.Filter{Device: "ct1"}, []netip.Addr{ct1}, ""},
		{"all at once", control.Filter{Network: "cardiology", State: control.Active}, []netip.Addr{other}, ""},
		{"device without a lease", control.Filter{Device: "oldmr"}, nil, ""},
		{"no such network", control.Filter{Network: "Radiology"}, nil, `network "Radiology": there is none of this name in the site file`},
		{"no such device", control.Filter{Device: "ct"}, nil, `device "ct": there is none of this name in the site file, and no lease of it`},
		{"no such state", control.Filter{State: "offered"}, nil, `state "offered": expected one of active, conflict, declined, expired, released`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			items, err := call[control.Lease](t, path, control.Leases, tt.filter)
			var got []netip.Addr
			for _, i := range items {
				got = append(got, i.Address)
			}
			slices.SortFunc(tt.want, netip.Addr.Compare)
			if !slices.Equal(got, tt.want) {
				t.Errorf("got %v, want %v", got, tt.want)
			}
			if tt.err == "" && err != nil || tt.err != "" && (err == nil || err.Error() != tt.err) {
				t.Errorf("error %v, want %q", err, tt.err)
			}
		})
	}

	items, err := call[control.Lease](t, path, control.Leases, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range items {
		switch i.Address {
		case ct1:
			if i.State != control.Active || i.Device != "ct1" || i.Name != "ct1.imaging.example.org." || i.Network != "radiology" || i.Published ||
				i.Client != (control.Client{HardwareType: 1, HardwareAddress: "00:00:5e:00:53:01"}) {
				t.Errorf("ct1: %+v", i)
			}
			if i.Expires == nil || i.Expires.Sub(i.Start).Round(time.Second) != time.Hour || time.Since(i.Start).Abs() > time.Minute || i.Start.Location() != time.UTC {
				t.Errorf("ct1: from %v to %v", i.Start, i.Expires)
			}
		case guest:
			if i.Client.ClientIdentifier != "0078ff" || i.Device != "" || i.Client.HardwareAddress != "00:00:5e:00:53:02" {
				t.Errorf("guest: %+v", i)
			}
		case other:
			if i.Expires != nil {
				t.Errorf("the lease that never ends: %v", i.Expires)
			}
		case gone:
			if i.State != control.Released || i.Expires == nil || time.Since(*i.Expires).Abs() > time.Minute {
				t.Errorf("released: %+v", i)
			}
		}
	}
}

func TestControlResync(t *testing.T) {
	l, path := controlled(t, filepath.Join(t.TempDir(), "leases"))
	a := obtain(t, l, 1) // ct1
	for range 2 {
		for _, c := range l.manager.TakeNameChanges(10) {
			if err := l.manager.ConfirmNameChange(c); err != nil {
				t.Fatal(err)
			}
		}
		for begin := time.Now(); ; time.Sleep(time.Millisecond) { // nothing waits for a confirmation to be written
			items, err := call[control.Lease](t, path, control.Leases, control.Filter{Device: "ct1"})
			if err == nil && len(items) == 1 && items[0].Address == a && items[0].DNS == "shown" {
				break
			}
			if err != nil || time.Since(begin) > 30*time.Second {
				t.Fatalf("%+v, %v", items, err)
			}
		}
		if got, err := call[control.Resynced](t, path, control.Resync, control.Network{Network: "radiology"}); err != nil || len(got) != 1 || got[0].Leases != 1 {
			t.Fatalf("%+v, %v", got, err)
		}
	}
	changes := l.manager.TakeNameChanges(10)
	if len(changes) != 1 {
		t.Fatalf("changes %+v", changes)
	}
	l.manager.FailNameChange(changes[0], time.Now().Add(time.Hour), lease.Trouble{Text: "REFUSED"})
	if items, err := call[control.Lease](t, path, control.Leases, control.Filter{Device: "ct1"}); err != nil || len(items) != 1 || items[0].DNS != "failed" || items[0].Trouble != "REFUSED" {
		t.Errorf("%+v, %v", items, err)
	}
	if got, err := call[control.Resynced](t, path, control.Resync, control.Network{Network: "cardiology"}); err != nil || len(got) != 1 || got[0].Leases != 0 {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := call[control.Resynced](t, path, control.Resync, control.Network{Network: "none"}); err == nil || !strings.Contains(err.Error(), "there is none of this name") {
		t.Error(err)
	}
}

func TestControlAddress(t *testing.T) {
	l, path := controlled(t, filepath.Join(t.TempDir(), "leases"))
	guest := obtain(t, l, 2)

	// The pool has this address alone: nobody else gets it before the lease is ended.
	if offer := send(t, l, dhcpv4.MessageTypeDiscover, 3); offer != nil {
		t.Fatalf("offered %v", offer.YourIPAddr)
	}
	for _, a := range []netip.Addr{guest, netip.AddrFrom16(guest.As16())} { // the second time there is nothing left
		items, err := call[control.Lease](t, path, control.Release, control.Address{Address: a})
		switch {
		case a.Is4():
			if err != nil || len(items) != 1 || items[0].Address != guest || items[0].State != control.Released {
				t.Errorf("release: %v, %v", items, err)
			}
		case err == nil || err.Error() != guest.String()+" has no active lease" || len(items) != 0:
			t.Errorf("release again: %v, %v", items, err)
		}
	}
	if got := obtain(t, l, 3); got != guest {
		t.Fatalf("the next client has %v", got)
	}

	// It finds somebody there.
	send(t, l, dhcpv4.MessageTypeDecline, 3, dhcpv4.WithOption(dhcpv4.OptServerIdentifier(serverID.AsSlice())),
		dhcpv4.WithOption(dhcpv4.OptRequestedIPAddress(guest.AsSlice())))
	if _, err := call[control.Lease](t, path, control.Release, control.Address{Address: guest}); err == nil {
		t.Error("a declined address was released")
	}
	items, err := call[control.Lease](t, path, control.Unquarantine, control.Address{Address: guest})
	if err != nil || len(items) != 1 || items[0].State != control.Expired {
		t.Errorf("unquarantine: %v, %v", items, err)
	}
	if _, err := call[control.Lease](t, path, control.Unquarantine, control.Address{Address: guest}); err == nil || err.Error() != guest.String()+" is not declined" {
		t.Errorf("unquarantine again: %v", err)
	}
	if got := obtain(t, l, 5); got != guest {
		t.Fatalf("the last client has %v", got)
	}

	events, err := call[control.Event](t, path, control.History, control.Address{Address: guest})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range events {
		got = append(got, e.State+" "+e.Client.String())
		if e.Address != guest || e.Until == nil || e.Start.After(*e.Until) {
			t.Errorf("event %+v", e)
		}
	}
	if want := []string{"active 00:00:5e:00:53:05", "declined 00:00:5e:00:53:03", "released 00:00:5e:00:53:02"}; !slices.Equal(got, want) {
		t.Errorf("history %q, want %q", got, want)
	}
	if events, err := call[control.Event](t, path, control.History, control.Address{Address: guest, Limit: 1}); err != nil || len(events) != 1 || events[0].State != control.Active {
		t.Errorf("history of one: %v, %v", events, err)
	}
	if events, err := call[control.Event](t, path, control.History, control.Address{Address: netip.MustParseAddr("203.0.113.1")}); err != nil || len(events) != 0 {
		t.Errorf("history of an address that nobody had: %v, %v", events, err)
	}
}

func TestControlArguments(t *testing.T) {
	_, path := controlled(t, filepath.Join(t.TempDir(), "leases"))
	tests := []struct {
		command, args, want string
	}{
		{control.Leases, `{"nets":"a"}`, "unknown field"},
		{control.History, `{}`, "expected an IP address"},
		{control.History, `{"address":"ct1"}`, "unable to parse IP"},
		{control.History, `{"address":"fe80::1%eth0"}`, "expected an IP address"},
		{control.History, `{"address":"192.0.2.1","limit":-1}`, "expected a number that is not negative"},
		{control.Release, `null`, "expected an IP address"},
		{control.Release, `{"address":"192.0.2.1","limit":1}`, "expected an address alone"},
		{control.Release, `{"address":"192.0.2.100"}`, "192.0.2.100 has no active lease"},
		{control.Unquarantine, `{"address":"192.0.2.100"}`, "192.0.2.100 is not declined"},
		{control.Backup, `{}`, "expected an absolute path"},
		{control.Backup, `{"directory":"leases"}`, "expected an absolute path"},
	}
	for _, tt := range tests {
		t.Run(tt.command+tt.args, func(t *testing.T) {
			items, err := call[any](t, path, tt.command, json.RawMessage(tt.args))
			if err == nil || !strings.Contains(err.Error(), tt.want) || len(items) > 0 {
				t.Errorf("error %v, want %q; %v", err, tt.want, items)
			}
		})
	}
}

// TestControlTimes holds that one lease has the same times wherever it is told of.
func TestControlTimes(t *testing.T) {
	l, path := controlled(t, filepath.Join(t.TempDir(), "leases"))
	a := obtain(t, l, 2)
	for _, state := range []string{control.Active, control.Released} {
		var told control.Lease
		if state == control.Released {
			items, err := call[control.Lease](t, path, control.Release, control.Address{Address: a})
			if err != nil || len(items) != 1 {
				t.Fatalf("release: %v, %v", items, err)
			}
			told = items[0]
		}
		listed, err := call[control.Lease](t, path, control.Leases, control.Filter{State: state})
		if err != nil || len(listed) != 1 {
			t.Fatalf("leases: %v, %v", listed, err)
		}
		events, err := call[control.Event](t, path, control.History, control.Address{Address: a})
		if err != nil || len(events) != 1 {
			t.Fatalf("history: %v, %v", events, err)
		}
		if state == control.Active {
			told = listed[0]
		}
		for _, l := range append(listed, told) {
			if e := events[0]; l.State != e.State || !l.Start.Equal(e.Start) || !l.Expires.Equal(*e.Until) || !l.Start.Equal(l.Start.Truncate(time.Millisecond)) {
				t.Errorf("%s: lease %v to %v, history %v to %v", state, l.Start, l.Expires, e.Start, e.Until)
			}
		}
	}
}

func TestControlBackup(t *testing.T) {
	l, path := controlled(t, filepath.Join(t.TempDir(), "leases"))
	guest := obtain(t, l, 2)
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	wrong := func(to, want string) {
		t.Helper()
		if _, err := call[control.Directory](t, path, control.Backup, control.Directory{Directory: to}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("backup to %s: %v, want %q", to, err, want)
		}
	}
	wrong(dir, "expected a new directory")
	wrong(file, "expected a new directory")
	wrong(filepath.Join(file, "backup"), "file is none")
	wrong(filepath.Join(dir, "none", "backup"), "no such file or directory")

	to := filepath.Join(dir, "backup")
	if err := os.Mkdir(to+".unfinished", 0o700); err != nil {
		t.Fatal(err)
	}
	wrong(to, "remove it in that case")
	if err := os.Remove(to + ".unfinished"); err != nil {
		t.Fatal(err)
	}
	items, err := call[control.Directory](t, path, control.Backup, control.Directory{Directory: to + "/"})
	if err != nil || len(items) != 1 || items[0].Directory != to {
		t.Fatalf("backup: %v, %v", items, err)
	}
	wrong(to, "expected a new directory")

	// What came after it is not in it, what came before is.
	late := obtain(t, l, 3, relayedToCardiology)
	restored, again := controlled(t, to)
	leases, err := call[control.Lease](t, again, control.Leases, nil)
	if err != nil || len(leases) != 1 || leases[0].Address != guest || leases[0].State != control.Active {
		t.Fatalf("restored: %+v, %v (later: %v)", leases, err, late)
	}
	if got := obtain(t, restored, 2); got != guest {
		t.Errorf("the restored server gives the client %v, it had %v", got, guest)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 2 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
}

// TestControlPlan asks what another site file would mean for two leases.
func TestControlPlan(t *testing.T) {
	l, path := controlled(t, t.TempDir())
	device, guest := obtain(t, l, 0x01), obtain(t, l, 0x09, dhcpv4.WithOption(dhcpv4.OptHostName("ws9")))
	kept := obtain(t, l, 0x0a, relayedToCardiology)
	file := writeSite(t, strings.NewReplacer("name: ct1,", "name: ct7,", "192.0.2.100-192.0.2.101", "192.0.2.150-192.0.2.151").Replace(siteFile))
	fates, err := call[control.Fate](t, path, control.Plan, control.SiteFile{Path: file})
	if err != nil || len(fates) != 3 {
		t.Fatalf("fates %+v, %v", fates, err)
	}
	renamed, refused, rest := fates[0], fates[1], fates[2]
	if renamed.Lease.Address != device || renamed.Refused != "" || renamed.NewDevice != "ct7" || renamed.NewName != "ct7.imaging.example.org." {
		t.Errorf("the device's is %+v", renamed)
	}
	if refused.Lease.Address != guest || refused.Refused != "the address is in no pool" {
		t.Errorf("the guest's is %+v", refused)
	}
	if rest != (control.Fate{Kept: 1}) {
		t.Errorf("the rest is %+v, want one that is kept, %s", rest, kept)
	}
	// Another network card of the device: what the old one holds is not its any more.
	file = writeSite(t, strings.Replace(siteFile, "00:00:5e:00:53:01", "00:00:5e:00:53:77", 1))
	fates, err = call[control.Fate](t, path, control.Plan, control.SiteFile{Path: file})
	if want := `the client is not device "ct1" any more, whose address this is`; err != nil || len(fates) == 0 || fates[0].Lease.Address != device || fates[0].Refused != want {
		t.Errorf("fates %+v, %v, want %s", fates, err, want)
	}
	if l.site.Current().DeviceByName("ct1") == nil {
		t.Error("the server has taken up the file")
	}
	pipe := filepath.Join(t.TempDir(), "pipe") // nobody writes to it: to read it is to wait for ever, also for a server that stops
	if err := unix.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ path, want string }{
		{"site.yaml", "expected an absolute path"},
		{"/nonexistent/site.yaml", "no such file"},
		{writeSite(t, "domain: [\n"), ":1:"},
		{t.TempDir(), "expected a regular file"},
		{pipe, "expected a regular file"},
	} {
		if _, err := call[control.Fate](t, path, control.Plan, control.SiteFile{Path: tt.path}); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: error %v, want %q in it", tt.path, err, tt.want)
		}
	}
}
