package main

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"

	"github.com/dicomnam/dicomnam/plugin/pkg/site"
)

const (
	questionsAtOnce = 16              // to a name server
	questionTime    = 2 * time.Second // for one answer
	questionTries   = 3
)

// nameServer is the one that devices asks.
type nameServer struct{ address string }

// compare finds out what DNS shows of each device, and notes what is wrong with it.
func (n *nameServer) compare(ctx context.Context, s *site.Site, list []deviceFound) error {
	errs := make([]error, len(list))
	places := make(chan struct{}, questionsAtOnce)
	var work sync.WaitGroup
	for i := range list {
		places <- struct{}{}
		work.Go(func() {
			defer func() { <-places }()
			errs[i] = n.one(ctx, s.DeviceByName(list[i].Device), &list[i])
		})
	}
	work.Wait()
	for _, err := range errs {
		if err != nil {
			return err // what fails for one fails for all
		}
	}
	return nil
}

// one compares one device.
func (n *nameServer) one(ctx context.Context, d *site.Device, f *deviceFound) error {
	shown, err := n.ask(ctx, d.Hostname, dns.TypeA)
	if err != nil {
		return err
	}
	var wanted []string
	switch {
	case d.Publish == site.PublishAlways:
		for _, a := range d.Addresses {
			wanted = append(wanted, a.String())
		}
	case f.State == devicePresent || f.State == deviceWrongAddress || f.State == deviceWrongName:
		if f.Name == "" {
			return nil // it has no name in DNS, by the site file
		}
		wanted = []string{f.Address[len(f.Address)-1].String()}
		if len(f.Address) > 1 && len(shown) == 1 && slices.ContainsFunc(f.Address, func(a netip.Addr) bool { return a.String() == shown[0] }) {
			wanted = shown // of several addresses DNS shows the newest
		}
	}
	slices.Sort(shown)
	slices.Sort(wanted)
	if !slices.Equal(shown, wanted) {
		f.wrong(fmt.Sprintf("DNS shows %s for %s, expected %s", nothing(shown), d.Hostname, nothing(wanted)))
		return nil
	}
	for _, v := range wanted {
		a, err := netip.ParseAddr(v)
		if err != nil {
			continue
		}
		names, err := n.ask(ctx, site.ReverseName(a), dns.TypePTR)
		if err != nil {
			return err
		}
		if !slices.Contains(names, d.Hostname) {
			f.wrong(fmt.Sprintf("DNS shows %s for %s, expected %s", nothing(names), a, d.Hostname))
		}
	}
	return nil
}

// wrong notes what is wrong of the device's name, unless its address is, which is worse.
func (f *deviceFound) wrong(detail string) {
	if f.State != deviceWrongAddress {
		f.State = deviceWrongName
	}
	if f.Detail != "" {
		detail = f.Detail + "; " + detail
	}
	f.Detail = detail
}

func nothing(list []string) string {
	if len(list) == 0 {
		return "nothing"
	}
	return strings.Join(list, " and ")
}

// ask returns the addresses or names that the server has of a type; none if it says that there are none.
func (n *nameServer) ask(ctx context.Context, name string, qtype uint16) ([]string, error) {
	m := new(dns.Msg).SetQuestion(name, qtype)
	var last error
	for range questionTries {
		r, _, err := (&dns.Client{Timeout: questionTime}).ExchangeContext(ctx, m, n.address)
		if err == nil && r.Truncated {
			r, _, err = (&dns.Client{Net: "tcp", Timeout: questionTime}).ExchangeContext(ctx, m, n.address)
		}
		if err != nil {
			last = err
			continue
		}
		if r.Rcode != dns.RcodeSuccess && r.Rcode != dns.RcodeNameError {
			return nil, fmt.Errorf("asking %s for %s %s: it answers %s", n.address, name, dns.TypeToString[qtype], dns.RcodeToString[r.Rcode])
		}
		var list []string
		for _, rr := range r.Answer {
			switch rr := rr.(type) {
			case *dns.A:
				list = append(list, rr.A.String())
			case *dns.PTR:
				list = append(list, dns.CanonicalName(rr.Ptr))
			}
		}
		return list, nil
	}
	return nil, fmt.Errorf("asking %s for %s: %w", n.address, name, last)
}
