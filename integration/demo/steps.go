//go:build linux

package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/miekg/dns"

	"github.com/dicomnam/dicomnam/integration/lab"
	"github.com/dicomnam/dicomnam/integration/radiology"
)

// patience is how long the demo waits for a lease, or for a change to show.
const patience = 30 * time.Second

type demo struct {
	*printer
	options
	lab     *lab.Lab
	network *radiology.Network
	client  lab.Client
	lease   lab.Lease
	scanner *lab.Resolver // asks as the scanner does
	watches []watch       // of step 4, begun in step 3
	ack     time.Time     // when the scanner had its lease
}

func (d *demo) steps(ctx context.Context) error {
	for _, step := range []func(context.Context) error{
		d.start, d.before, d.join, d.named, d.browse, d.legacy, d.leave,
	} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

// start makes the network and starts the servers.
func (d *demo) start(ctx context.Context) error {
	d.heading("A radiology network, made up inside this machine")
	var err error
	if d.network, err = radiology.New(ctx, d.lab, radiology.Options{Bin: d.bin}); err != nil {
		return err
	}
	if err := d.network.Start(ctx); err != nil {
		return err
	}
	n := d.network
	rows := [][]string{{"network", "192.0.2.0/24, domain imaging.example.org"}}
	switch d.mode {
	case lab.Namespaces, lab.UserNamespaces:
		rows = append(rows, []string{"runs in", fmt.Sprintf("two network namespaces (mode %s), joined by a virtual cable:", d.mode)},
			[]string{"", "both servers at one end, a device at the other"})
	case lab.Loopback:
		rows = append(rows, []string{"runs on", fmt.Sprintf("127.0.0.1 (mode %s): the device's messages come through a DHCP relay,", d.mode)},
			[]string{"", "as from another building"})
	}
	for i, reason := range d.reasons {
		rows = append(rows, []string{[]string{"because", ""}[min(i, 1)], reason})
	}
	d.table(append(rows,
		[]string{"site file", n.Site, "(all that is known of the network)"},
		[]string{"coredns", n.Corefile, fmt.Sprintf("(names and services: process %d on %s)", n.DNSServer.PID(), n.DNS)},
		[]string{"coredhcp", n.Config, fmt.Sprintf("(addresses: process %d on %s)", n.DHCPServer.PID(), d.lab.DHCP)},
		[]string{"key", n.Keys, "(signs what coredhcp tells coredns)"},
	)...)
	d.line("")
	d.table(
		[]string{"device", "type", "address", "applications"},
		[]string{"ct1", "CT", "192.0.2.11, by DHCP", "CT1 on port 104, CT1_TLS on port 2762"},
		[]string{"mr1", "MR", "any, by DHCP", "MR1 on port 104; it stays switched off"},
		[]string{"oldmr", "MR", "192.0.2.20, typed in at the device", "OLDMR on port 104"},
		[]string{"ldap", "", "192.0.2.5, typed in at the device", "configuration server, port 389"},
	)
	return nil
}

// instance is the name of the scanner's DICOM service.
const instance = "CT1._dicom._tcp." + radiology.Domain

// reverse is the name under which an address is looked up.
func reverse() string {
	name, _ := dns.ReverseAddr(radiology.CT1.Address.String()) // of a valid address: no error
	return name
}

// before shows that nobody knows the scanner.
func (d *demo) before(ctx context.Context) error {
	d.heading("Before: the scanner ct1 is switched off, and nobody finds it")
	r := d.network.Resolver()
	defer func() { _ = r.Close() }() // nothing is asked any more
	var rows [][]string
	for _, q := range []question{{radiology.CT1.Host, dns.TypeA}, {reverse(), dns.TypePTR}, {instance, dns.TypeSRV}} {
		m, err := r.Ask(ctx, q.name, q.qtype)
		if err != nil {
			return err
		}
		if !lab.Absent(m) {
			return &unmet{q.String() + ": NXDOMAIN", lab.Summary(m)}
		}
		rows = append(rows, []string{trim(q.name), dns.TypeToString[q.qtype], "NXDOMAIN: there is no such name"})
	}
	d.table(rows...)
	return nil
}

// join switches the scanner on.
func (d *demo) join(ctx context.Context) error {
	program := d.program
	if program == "" {
		program = lab.Programs(d.mode)[0]
	}
	d.heading("The scanner is switched on and asks for an address (DHCP client: %s)", describe(program))
	waiting, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	// Asked from before the scanner has its address, so as not to miss the moment.
	d.watches = []watch{
		d.watch(ctx, question{radiology.CT1.Host, dns.TypeA}, "an answer", lab.Present),
		d.watch(ctx, question{reverse(), dns.TypePTR}, "an answer", lab.Present),
		d.watch(ctx, question{instance, dns.TypeSRV}, "an answer", lab.Present),
	}
	asked := time.Now()
	var err error
	if d.client, err = d.lab.StartClient(waiting, program, radiology.CT1.Machine); err != nil {
		return err
	}
	if d.lease, err = d.client.Lease(waiting); err != nil {
		return &unmet{fmt.Sprintf("an address for the scanner within %s", patience), err.Error()}
	}
	ack, err := d.lab.Wire().WaitACK(waiting, asked, d.lease.Address)
	if err != nil {
		return err
	}
	d.ack = ack.Time
	if d.scanner, err = d.network.ClientResolver(d.lease); err != nil {
		return err
	}
	return d.checkLease()
}

// describe names the client program that plays the scanner.
func describe(p lab.Program) string {
	switch p {
	case lab.Relay:
		return "built in, through a relay"
	case lab.Builtin:
		return "built in"
	}
	return string(p)
}

// checkLease compares what the scanner was given with the site file.
func (d *demo) checkLease() error {
	zone, err := time.LoadLocation(radiology.Zone)
	if err != nil {
		return err
	}
	_, offset := time.Now().In(zone).Zone()
	l := d.lease
	var rows [][]string
	for _, v := range []struct{ what, found, expected, meaning string }{
		{"address", l.Prefix().String(), "192.0.2.11/24", "the one that the site file reserves for it"},
		{"lease time", span(l.Duration), span(radiology.LeaseTime), "it asks again before that has passed"},
		{"host name", l.Hostname, "ct1", ""},
		{"domain", l.Domain, trim(radiology.Domain), ""},
		{"name server", list(l.DNS), radiology.Server.Addr().String(), "coredns"},
		{"router", list(l.Routers), radiology.Router.String(), "the way to other networks"},
		{"time server", list(l.NTP), radiology.NTP.String(), "DICOM Basic Time Synchronization"},
		{"time offset", span(l.TimeOffset), span(time.Duration(offset) * time.Second), "of " + radiology.Zone + " from UTC, today"},
		{"MTU", fmt.Sprint(l.MTU), fmt.Sprint(radiology.MTU), "largest packet"},
		{"broadcast", l.Broadcast.String(), "192.0.2.255", ""},
	} {
		if v.found != v.expected {
			return &unmet{v.what + " " + v.expected, v.found}
		}
		rows = append(rows, []string{v.what, v.found, v.meaning})
	}
	d.table(rows...)
	return nil
}

// named shows the names that followed the lease.
func (d *demo) named(ctx context.Context) error {
	d.heading("At once it is found: by its name, by its address, and as a DICOM service")
	rows, err := d.seen(ctx, d.watches, d.ack, "after the scanner had its address")
	if err != nil {
		return err
	}
	d.table(rows...)
	// Of what was seen from outside, the scanner itself sees the same.
	a, err := d.scanner.Ask(ctx, radiology.CT1.Host, dns.TypeA)
	if err != nil {
		return err
	}
	if got := data(a); got != radiology.CT1.Address.String() {
		return &unmet{"A " + radiology.CT1.Address.String(), lab.Summary(a)}
	}
	ptr, err := d.scanner.Ask(ctx, reverse(), dns.TypePTR)
	if err != nil {
		return err
	}
	if got := data(ptr); got != radiology.CT1.Host {
		return &unmet{"PTR " + radiology.CT1.Host, lab.Summary(ptr)}
	}
	return nil
}

// browse lists what a workstation that looks for DICOM devices finds.
func (d *demo) browse(ctx context.Context) error {
	d.heading("Whoever looks for DICOM devices finds them, with all that a connection needs")
	rows := [][]string{{"AE title", "host", "address", "port", "type", "service"}}
	expected := map[string]string{
		"_dicom._tcp":     "CT1 ct1.imaging.example.org 192.0.2.11 104 CT, OLDMR oldmr.imaging.example.org 192.0.2.20 104 MR",
		"_dicom-tls._tcp": "CT1_TLS ct1.imaging.example.org 192.0.2.11 2762 CT",
	}
	for _, service := range []string{"_dicom._tcp", "_dicom-tls._tcp"} {
		found, err := radiology.Browse(ctx, d.scanner, service)
		if err != nil {
			return err
		}
		var text strings.Builder
		for n, i := range found {
			row := []string{i.AETitle, trim(i.Host), i.Address.String(), fmt.Sprint(i.Port), i.Type}
			if n > 0 {
				text.WriteString(", ")
			}
			text.WriteString(join(row))
			rows = append(rows, append(row, service))
		}
		if text.String() != expected[service] {
			return &unmet{service + ": " + expected[service], text.String()}
		}
	}
	d.table(rows...)
	return nil
}

// legacy shows the devices that never ask, and the LDAP server.
func (d *demo) legacy(ctx context.Context) error {
	d.heading("Devices too old for DHCP are found all the same, as the site file has them")
	a, err := d.scanner.Ask(ctx, radiology.OldMR.Host, dns.TypeA)
	if err != nil {
		return err
	}
	if got := data(a); got != radiology.OldMR.Address.String() {
		return &unmet{radiology.OldMR.Host + " A " + radiology.OldMR.Address.String(), lab.Summary(a)}
	}
	ldap, err := d.scanner.Ask(ctx, "_ldap._tcp."+radiology.Domain, dns.TypeSRV)
	if err != nil {
		return err
	}
	if got, want := data(ldap), "0 0 389 "+radiology.LDAP.Host; got != want {
		return &unmet{"_ldap._tcp SRV " + want, lab.Summary(ldap)}
	}
	d.table(
		[]string{trim(radiology.OldMR.Host), "A", data(a)},
		[]string{"_ldap._tcp." + trim(radiology.Domain), "SRV", trim(data(ldap)), "(priority, weight, port, host)"},
	)
	return nil
}

// leave switches the scanner off, as its own shutdown does.
func (d *demo) leave(ctx context.Context) error {
	d.heading("The scanner is shut down and gives its address back")
	if err := d.scanner.Close(); err != nil {
		return err
	}
	watches := []watch{
		d.watch(ctx, question{radiology.CT1.Host, dns.TypeA}, "NXDOMAIN", lab.Absent),
		d.watch(ctx, question{reverse(), dns.TypePTR}, "NXDOMAIN", lab.Absent),
		d.watch(ctx, question{instance, dns.TypeSRV}, "NXDOMAIN", lab.Absent),
	}
	waiting, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	since := time.Now()
	if err := d.client.Release(waiting); err != nil {
		return &unmet{"the scanner gives its address back", err.Error()}
	}
	release, err := d.lab.Wire().WaitRelease(waiting, since, d.lease.Address)
	if err != nil {
		return err
	}
	rows, err := d.seen(ctx, watches, release.Time, "after the scanner gave its address back")
	if err != nil {
		return err
	}
	d.table(rows...)
	r := d.network.Resolver()
	defer func() { _ = r.Close() }() // nothing is asked any more
	left, err := radiology.Browse(ctx, r, "_dicom._tcp")
	if err != nil {
		return err
	}
	if len(left) != 1 || left[0].AETitle != "OLDMR" {
		return &unmet{"only OLDMR in _dicom._tcp", fmt.Sprint(left)}
	}
	d.line("   Only OLDMR is left in the list of DICOM devices.")
	return nil
}

// seen waits for what was watched, and gives a row of each with the time that it
// took after its cause.
func (d *demo) seen(ctx context.Context, watches []watch, cause time.Time, after string) ([][]string, error) {
	deadline, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var rows [][]string
	for _, w := range watches {
		select {
		case s := <-w.seen:
			if s.err != nil {
				return nil, s.err
			}
			answer := trim(data(s.answer))
			if lab.Absent(s.answer) {
				answer = "NXDOMAIN: there is no such name"
			}
			rows = append(rows, []string{trim(w.name), dns.TypeToString[w.qtype], answer, ms(s.at.Sub(cause)), after})
			after = "" // said once
		case <-deadline.Done():
			if err := context.Cause(ctx); err != nil {
				return nil, err
			}
			return nil, w.late(ctx, d.network)
		}
	}
	return rows, nil
}
