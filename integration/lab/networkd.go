//go:build linux

package lab

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
)

// networkd is the client of systemd-networkd, which runs here without the rest
// of systemd. It calls no script: its leases are seen on the wire.
type networkd struct {
	lab     *Lab
	machine Machine
	process *Process
	seen    int   // messages on the wire that were looked at
	asked   bool  // there is a REQUEST that none of these answers
	acks    int   // ACKs that this process asked for, of those
	lease   Lease // the last
}

const networkdPath = "/lib/systemd/systemd-networkd"

// networkdAccount is the user that the program becomes.
func networkdAccount() (*user.User, error) {
	if _, err := os.Stat(networkdPath); err != nil {
		return nil, err
	}
	return user.Lookup("systemd-network")
}

func (l *Lab) startNetworkd(m Machine) (Client, error) {
	n := &networkd{lab: l, machine: m}
	return n, n.start()
}

func (n *networkd) start() error {
	account, err := networkdAccount()
	if err != nil {
		return err
	}
	uid, err := strconv.Atoi(account.Uid)
	if err != nil {
		return err
	}
	gid, err := strconv.Atoi(account.Gid)
	if err != nil {
		return err
	}
	// Both belong to the machine, and outlive the process.
	base := filepath.Join(n.lab.Dir, "networkd-"+strings.ReplaceAll(n.machine.MAC.String(), ":", ""))
	state, config := filepath.Join(base, "netif"), filepath.Join(base, "network")
	for _, dir := range []string{config, filepath.Join(state, "leases"), filepath.Join(state, "links"), filepath.Join(state, "lldp")} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		if err := errors.Join(os.Chown(filepath.Dir(dir), uid, gid), os.Chown(dir, uid, gid)); err != nil {
			return err
		}
	}
	text := "[Match]\nName=" + Link + "\n" +
		"[Network]\nDHCP=ipv4\nLinkLocalAddressing=no\nIPv6AcceptRA=no\nLLDP=no\n" +
		"[DHCPv4]\nClientIdentifier=mac\nUseMTU=yes\nUseHostname=no\nUseTimezone=no\nRequestOptions=2 28\n"
	if name := cmp.Or(n.machine.FQDN, n.machine.Hostname); name != "" {
		text += "Hostname=" + name + "\n" // of several labels it makes option 81
	} else {
		text += "SendHostname=no\n"
	}
	if err := os.WriteFile(filepath.Join(config, Link+".network"), []byte(text), 0o644); err != nil {
		return err
	}
	n.seen, n.asked, n.acks = len(n.lab.wire.Messages()), false, 0
	n.process, err = n.lab.Start(n.lab.Client, Command{
		Name: string(Networkd), Path: networkdPath,
		Env: []string{"SYSTEMD_LOG_LEVEL=debug", "SYSTEMD_LOG_TARGET=console"},
		Mounts: []Mount{
			{Target: "/run"},
			{Source: state, Target: "/run/systemd/netif"},
			{Source: config, Target: "/run/systemd/network"},
			// Where it cannot be written there is no udev, and so nothing to wait for.
			{Source: "/sys", Target: "/sys", ReadOnly: true},
		},
	})
	return err
}

// Lease waits for an ACK that was not looked at yet, until the program has taken it, and until the link is configured.
func (n *networkd) Lease(ctx context.Context) (Lease, error) {
	for {
		messages := n.lab.wire.Messages()
		for n.seen < len(messages) {
			m := messages[n.seen]
			n.seen++
			if !slices.Equal(m.ClientHWAddr, n.machine.MAC) {
				continue
			}
			if m.MessageType() == dhcpv4.MessageTypeRequest {
				n.asked = true
			}
			// Of two ACKs in a row the second is for a REQUEST that was sent again, and not taken.
			if m.MessageType() != dhcpv4.MessageTypeAck || !n.asked {
				continue
			}
			n.asked = false
			n.acks++
			n.lease = leaseOf(m.DHCPv4)
			if err := n.taken(ctx); err != nil {
				return Lease{}, err
			}
			return n.lease, n.configured(ctx)
		}
		if err := n.pause(ctx); err != nil {
			return Lease{}, fmt.Errorf("waiting for a lease: %w", err)
		}
	}
}

// taken waits until the program has taken as many ACKs as were looked at, as it says in its log. Until then it has its lease
// from before, or none, and gives nothing back.
func (n *networkd) taken(ctx context.Context) error {
	for strings.Count(n.process.Written(), "DHCPv4 client: ACK\n") < n.acks {
		if err := n.pause(ctx); err != nil {
			return fmt.Errorf("waiting for the ACK of %s to be taken: %w", n.lease.Address, err)
		}
	}
	return nil
}

// configured waits until the program is done with the link, as it says in its log.
func (n *networkd) configured(ctx context.Context) error {
	for {
		states := stateChange.FindAllStringSubmatch(n.process.Written(), -1)
		if len(states) > 0 && states[len(states)-1][1] == "configured" {
			return nil
		}
		if err := n.pause(ctx); err != nil {
			return fmt.Errorf("waiting for %s on the link: %w", n.lease.Address, err)
		}
	}
}

var stateChange = regexp.MustCompile(`: State changed: \w+ -> (\w+)\n`)

// pause is between two looks at what the program does.
func (n *networkd) pause(ctx context.Context) error {
	select {
	case <-n.process.Done():
		return n.process.Ended()
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(time.Millisecond):
		return nil
	}
}

// Renew switches it off and on again.
func (n *networkd) Renew(ctx context.Context) (Lease, error) {
	n.Kill()
	if err := n.start(); err != nil {
		return Lease{}, err
	}
	return n.Lease(ctx)
}

// Release ends it: it gives back what it has.
func (n *networkd) Release(ctx context.Context) error {
	since := time.Now()
	if err := n.process.Stop(); err != nil {
		return err
	}
	_, err := n.lab.wire.WaitRelease(ctx, since, n.lease.Address)
	return err
}

func (n *networkd) Kill() { n.process.Kill() }
