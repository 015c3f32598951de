package lease

import (
	"context"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"
)

func newRand(t testing.TB) *rand.Rand {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

// tenure is one client's time on an address, as the messages told it.
type tenure struct {
	client Client
	device string
	name   string
	state  State
	start  time.Time
	until  time.Time // zero: infinite
}

func (s *tenure) held(now time.Time) bool {
	return s.state == Active && (s.until.IsZero() || s.until.After(now))
}

// machine is a client as it behaves.
type machine struct {
	Client
	port, circuit, host string
	classes             []string
	offer               netip.Addr
}

// model is the plainest there is: for each address, who was told what about it. Everything is found by looking at all.
type model struct {
	*fixture
	r        *rand.Rand
	config   Config
	machines []*machine
	tenures  map[netip.Addr][]*tenure // the last one may still go on
	resting  map[netip.Addr]time.Time
	reloads  bool // a reload is going on
	steps    int  // of reloads, after which something else happened
}

const modelPort = 3 // Config.MaxPerPort

// modelConfigs is how many configurations of a site there are, among which it is reloaded.
const modelConfigs = 8

// modelConfig is one of them.
func modelConfig(n int) Config {
	c := testConfig()
	c.MaxPerPort = modelPort
	c.Networks[0].Pools[0].Last = addr("192.0.2.104")
	c.Networks[2].Pools = []Pool{
		{First: addr("198.51.100.10"), Last: addr("198.51.100.13"), Clients: AnyClient},
		{First: addr("198.51.100.14"), Last: addr("198.51.100.15"), Clients: KnownClients},
		{First: addr("198.51.100.16"), Last: addr("198.51.100.17"), Clients: UnknownClients},
		{First: addr("198.51.100.18"), Last: addr("198.51.100.19"), Class: "phones"},
	}
	c.Reservations = append(c.Reservations,
		Reservation{Device: "us1", Hostname: "us1.imaging.example.org.", Publish: true, CircuitID: "sw1/7", Addresses: []netip.Addr{addr("192.0.2.21")}},
		Reservation{Device: "ws9", Hostname: "ws9.imaging.example.org.", Publish: true, Names: []string{"ws9"}, Addresses: []netip.Addr{addr("192.0.2.22")}},
	)
	if n&1 != 0 { // an address out of a pool becomes a device's, another one is kept out
		c.Reservations = append(c.Reservations, Reservation{
			Device: "cr9", HardwareAddresses: []HardwareAddress{{1, mac(0xe9)}}, Addresses: []netip.Addr{addr("198.51.100.11")},
		})
		c.Excluded = append(c.Excluded, addr("192.0.2.104"))
	}
	if n&2 != 0 { // pools change
		c.Networks[2].Pools[2].Clients, c.Networks[2].Pools[1].Clients = KnownClients, UnknownClients
		c.Networks[2].Pools[3].First = addr("198.51.100.19")
	}
	if n&4 != 0 { // names go to whoever comes last
		c.Networks[2].Names.Mode = NamesLastWins
	}
	return c
}

// owner is the device that an address is reserved for; "" if it is none's.
func (m *model) owner(a netip.Addr) string {
	for _, r := range m.config.Reservations {
		if slices.Contains(r.Addresses, a) {
			return r.Device
		}
	}
	return ""
}

// strong is the device of a client by its hardware address and identifier.
func (m *model) strong(c Client) string {
	for _, r := range m.config.Reservations {
		if slices.Contains(r.HardwareAddresses, HardwareAddress{c.HardwareType, c.HardwareAddr}) {
			return r.Device
		}
	}
	for _, r := range m.config.Reservations {
		if slices.Contains(r.ClientIdentifiers, c.Identifier) {
			return r.Device
		}
	}
	return ""
}

// allowed says whether a client that is this device, or none, may have an address by the configuration.
func (m *model) allowed(a netip.Addr, device string, classes []string, anyClass bool) bool {
	if o := m.owner(a); o != "" {
		return o == device
	}
	if slices.Contains(m.config.Excluded, a) {
		return false
	}
	for _, n := range m.config.Networks {
		for _, p := range n.Pools {
			if a.Compare(p.First) >= 0 && a.Compare(p.Last) <= 0 {
				return (p.Clients == AnyClient || (p.Clients == KnownClients) == (device != "")) &&
					(p.Class == "" || anyClass || slices.Contains(classes, p.Class))
			}
		}
	}
	return false
}

func (m *model) wire(a netip.Addr) string {
	for _, n := range m.config.Networks {
		if n.Prefix.Contains(a) {
			return n.SharedNetwork + "/" + map[bool]string{true: n.Name}[n.SharedNetwork == ""]
		}
	}
	return ""
}

// last is the tenure of an address that goes on, or nil.
func (m *model) last(a netip.Addr) *tenure {
	if list := m.tenures[a]; len(list) > 0 && list[len(list)-1].state == Active {
		return list[len(list)-1]
	}
	return nil
}

// end ends the tenure of an address, if one goes on: when its time was over, or else now.
func (m *model) end(a netip.Addr, how State) {
	s, now := m.last(a), m.clock.now()
	switch {
	case s == nil:
	case !s.held(now) && how != Declined:
		s.state = Expired
	default:
		s.state, s.until = how, now
	}
}

// acked notes an Ack, after it held it against all that others were told.
func (m *model) acked(w *machine, q *Query, a Answer) {
	m.Helper()
	if a.Kind != Ack {
		return
	}
	got, now, l := a.Lease.Address, m.clock.now(), a.Lease
	holder := l.Client
	if holder.HardwareAddr != w.HardwareAddr || holder != w.Client && a.Duration != Infinite {
		m.Fatalf("%v asked, the lease is for %v", w.Client, holder)
	}
	device := m.strong(holder)
	if device == "" && l.Device != "" { // by its port or name, or because it was before
		was := m.last(got)
		switch ok := was != nil && was.client == holder && was.device == l.Device; {
		case ok, l.Device == "us1" && q.CircuitID == "sw1/7", l.Device == "ws9" && q.Hostname == "ws9":
			device = l.Device
		case l.Device == "us1" && w.circuit == "sw1/7", l.Device == "ws9" && w.host == "ws9": // holds another address as that
			device = l.Device
		}
		for o, list := range m.tenures {
			if s := list[len(list)-1]; s.held(now) && s.device == device && s.client.HardwareAddr != holder.HardwareAddr {
				m.Fatalf("%v was taken for %q, as which %v holds %v", holder, device, s.client, o)
			}
		}
	}
	if l.Device != device {
		m.Fatalf("%v is %q in the lease, want %q", holder, l.Device, device)
	}
	s := m.last(got)
	if s != nil && s.held(now) && s.client != holder && (m.owner(got) == "" || s.client.HardwareAddr != holder.HardwareAddr) {
		m.Fatalf("%v given to %v, promised to %v until %v, it is %v", got, holder, s.client, s.until, now)
	}
	if since, ok := m.resting[got]; ok && now.Before(since.Add(leastRest)) && m.owner(got) == "" {
		m.Fatalf("%v given while it rests since %v", got, since)
	}
	delete(m.resting, got)
	renewal := given(q.ClientAddr) && !q.Relayed
	if !m.allowed(got, device, q.Classes, renewal) {
		m.Fatalf("%v given to %v, which is %q with classes %v", got, holder, device, q.Classes)
	}
	if s == nil || s.client != holder {
		m.end(got, Released)
		s = &tenure{client: holder, state: Active, start: now}
		m.tenures[got] = append(m.tenures[got], s)
	}
	if s.name != "" && s.name != l.Name {
		before := *s
		before.state, before.until = Renamed, now
		m.tenures[got] = slices.Insert(m.tenures[got], len(m.tenures[got])-1, &before)
	}
	s.device, s.name, s.until = device, l.Name, time.Time{}
	if a.Duration != Infinite {
		s.until = now.Add(a.Duration)
	}
	for o := range m.tenures {
		if other := m.last(o); o != got && other != nil && other.client == holder && other.held(now) && m.wire(o) == m.wire(got) {
			m.end(o, Released)
		}
	}
	m.sees(got)
}

// sees checks that the Manager shows of an address what it told.
func (m *model) sees(a netip.Addr) {
	m.Helper()
	l, _ := m.Lease(a)
	s := m.last(a)
	if s == nil {
		if l.State == Active {
			m.Fatalf("%v is held by %v, whose lease ended", a, l.Client)
		}
		return
	}
	if l.State != Active || l.Client != s.client || !l.Expires.Equal(s.until) || l.Device != s.device || !l.Start.Equal(s.start) {
		m.Fatalf("%v was promised: %+v; the lease is %+v", a, *s, l)
	}
}

// seesAll checks every promise and all of history.
func (m *model) seesAll() {
	m.Helper()
	for a, list := range m.tenures {
		m.sees(a)
		got, err := m.History(context.Background(), a, 1000)
		if err != nil {
			m.Fatal(err)
		}
		want := min(len(list), maxEvents)
		if m.last(a) != nil {
			want = min(len(list), maxEvents+1)
		}
		if len(got) != want {
			m.Fatalf("%v: %d events, want %d", a, len(got), want)
		}
		for i, e := range got {
			s := list[len(list)-1-i]
			if e.Address != a || e.Client != s.client || e.State != s.state || e.Device != s.device || e.Name != s.name || !e.Time.Equal(s.start) || !e.Until.Equal(s.until) {
				m.Fatalf("%v, event %d: %+v, want %+v", a, i, e, *s)
			}
		}
	}
	for a, s := range m.resting {
		if l, _ := m.Lease(a); l.State != Declined {
			m.Fatalf("%v declined at %v is %v", a, s, l.State)
		}
	}
}

// forgetRests drops what rests no more: the rest is over, or its client declined too many.
func (m *model) forgetRests() {
	for a := range m.resting {
		if m.state(a.String()) != Declined {
			delete(m.resting, a)
		}
	}
}

// expire ends what is over, as Run does.
func (m *model) expire() {
	m.Helper()
	m.expireAll()
	m.forgetRests()
	for a := range m.tenures {
		if s := m.last(a); s != nil && !s.held(m.clock.now()) {
			m.end(a, Expired)
		}
	}
}

// TestAgainstModel drives random clients of all kinds, an administrator and a random clock, with restarts and reloads,
// against the model. Nobody may get what somebody else was promised, no promise may be lost, what is reserved goes to
// whom it is reserved for, no port has more than it may, and history is what happened.
func TestAgainstModel(t *testing.T) {
	m := &model{r: newRand(t), config: modelConfig(0), tenures: map[netip.Addr][]*tenure{}, resting: map[netip.Addr]time.Time{}}
	m.fixture = open(t, m.config)
	for i := range 10 {
		w := &machine{Client: client(byte(i + 1)), port: "port" + string(rune('0'+i%3))}
		if i%2 == 1 {
			w.Identifier = "\x01" + w.HardwareAddr
		}
		if i%3 == 0 {
			w.classes = []string{"phones"}
		}
		m.machines = append(m.machines, w)
	}
	// Two interfaces of one device, two clients of one interface, one identifier on three machines, two machines that were
	// plugged into one port, two that say one name.
	for _, c := range []Client{client(0xc1), client(0xc2), client(0xd1), {1, mac(0xc1), "\x00VENDOR"}, {1, mac(0xd1), "\x00VENDOR"}, {1, mac(0x61), "\x00VENDOR"}} {
		m.machines = append(m.machines, &machine{Client: c, port: "port0"})
	}
	for n := range byte(2) {
		m.machines = append(m.machines,
			&machine{Client: client(0x71 + n), port: "port1", circuit: "sw1/7"}, &machine{Client: client(0x81 + n), port: "port2", host: "ws9"})
	}
	for range 8000 {
		m.step()
		m.check()
		for _, w := range m.machines {
			if u := m.ports[hashPort(w.port)]; u.bindings+u.offers > modelPort {
				t.Fatalf("%s has %+v", w.port, u)
			}
		}
	}
	if m.steps < 100 {
		t.Errorf("reloads had %d pauses", m.steps)
	}
	m.expire()
	m.seesAll()
	// What the store says is what memory says.
	m.settled()
	n := 0
	for l, err := range m.Leases() {
		if err != nil {
			t.Fatal(err)
		}
		n++
		if o, ok := m.Lease(l.Address); !ok || o.State != l.State || o.Client != l.Client || o.Name != l.Name ||
			o.Network != l.Network || o.Version != l.Version || o.State != Declined && !o.Expires.Equal(l.Expires) {
			t.Errorf("on disk %+v, in memory %+v", l, o)
		}
	}
	if n != m.bindings.len() {
		t.Errorf("%d leases on disk, %d in memory", n, m.bindings.len())
	}
}

// step is one thing that happens.
func (m *model) step() {
	m.Helper()
	w := m.machines[m.r.IntN(len(m.machines))]
	q := query(w.Client, []netip.Addr{link, link2}[m.r.IntN(2)])
	q.LeaseTime = time.Duration(m.r.IntN(3)) * 20 * time.Minute
	q.Port, q.CircuitID, q.Hostname, q.Classes = w.port, w.circuit, w.host, w.classes
	q.Relayed = m.r.IntN(3) == 0
	now := m.clock.now()
	var mine []netip.Addr
	for a := range m.tenures {
		if s := m.last(a); s != nil && s.client == w.Client {
			mine = append(mine, a)
		}
	}
	slices.SortFunc(mine, netip.Addr.Compare) // so that a seed says all
	pick := func() netip.Addr {
		if len(mine) == 0 || m.r.IntN(8) == 0 {
			return []netip.Addr{addr("192.0.2.100"), addr("198.51.100.11"), addr("192.0.2.21")}[m.r.IntN(3)]
		}
		return mine[m.r.IntN(len(mine))]
	}
	request := func(q Query, a netip.Addr) Answer {
		ans := m.request(q)
		if s := m.last(a); ans.Kind == Nak && s != nil && s.client == w.Client && m.state(a.String()) != Active {
			// It may only lose what is another's by now.
			if o := m.owner(a); o == "" || o == m.strong(w.Client) || s.held(now) && o == s.device {
				m.Fatalf("%v lost %v with a NAK: %s", w.Client, a, ans.Reason)
			}
			m.end(a, Released)
		}
		m.acked(w, &q, ans)
		return ans
	}
	switch m.r.IntN(14) {
	case 0, 1, 2:
		if a := m.discover(q); a.Kind == Offer {
			for _, o := range m.machines {
				of := m.offers.byClient[o.Key()]
				if o != w && o.offer == a.Lease.Address && of != nil && of.addr == o.offer && of.client.client() == o.Client {
					m.Fatalf("%v offered to two clients", o.offer)
				}
			}
			w.offer = a.Lease.Address
		}
	case 3, 4:
		if w.offer.IsValid() {
			request(selecting(q, w.offer), w.offer)
		}
	case 5:
		p := m.conf.pools[m.r.IntN(len(m.conf.pools))]
		request(selecting(q, p.first), p.first)
	case 6:
		a := pick()
		request(rebooting(q, a), a)
	case 7, 8:
		a := pick()
		q = renewing(q, a)
		s := m.last(a)
		if q.Relayed {
			q.Links = []netip.Addr{{}}
			for _, l := range []netip.Addr{link, link2, link3} {
				if m.conf.networkOf(l) == m.conf.networkOf(a) {
					q.Links[0] = l
				}
			}
		} else { // unicast: the relay says nothing
			if q.CircuitID, q.Classes = "", nil; m.r.IntN(2) == 0 {
				q.Hostname = ""
			}
			if s != nil && s.device == "" {
				q.Port = "eth0"
			}
		}
		must := s != nil && s.client == w.Client && s.held(now) && m.allowed(a, s.device, q.Classes, !q.Relayed)
		if s != nil && s.device != "" && m.owner(a) == "" {
			must = false // it is moved to its own address once that is free
		}
		if w.circuit+w.host != "" && s != nil && s.device == "" {
			must = false // it may have become the device by now
		}
		if ans := request(q, a); must && ans.Kind != Ack {
			m.Fatalf("renewal of %v by %v, promised until %v: %v %s", a, w.Client, s.until, ans.Kind, ans.Reason)
		}
	case 9:
		a := pick()
		s := m.last(a)
		m.release(q, a)
		if s != nil && s.client == w.Client {
			m.end(a, Released)
		}
		m.sees(a)
	case 10:
		a := pick()
		if s := m.last(a); m.r.IntN(4) == 0 && s != nil && s.client == w.Client {
			m.decline(q, a)
			if s := m.state(a.String()); s != Declined {
				m.Fatalf("%v declined by %v, which was promised it: it is %v", a, w.Client, s)
			}
			m.end(a, Declined)
			m.resting[a] = now
			m.forgetRests()
		}
	case 11:
		m.clock.advance(time.Duration(m.r.IntN(15)) * time.Minute)
		if m.r.IntN(2) == 0 {
			m.expire()
		}
	case 12:
		switch a := m.bootp(q); {
		case a.Kind == Silent:
		case a.Kind != Ack || a.Duration != Infinite || m.owner(a.Lease.Address) == "":
			m.Fatalf("BOOTP: %+v", a)
		default:
			m.acked(w, &q, a)
		}
	case 13:
		m.manage()
	}
}

// reload takes up another configuration. Whenever that lets others have the Manager, something else happens, which goes by
// the configuration before until the new one is in force.
func (m *model) reload() {
	m.Helper()
	next, before := modelConfig(m.r.IntN(modelConfigs)), m.conf
	inForce := func() {
		if m.conf != before {
			m.config = next
		}
	}
	m.reloads, m.atOnce = true, 1+m.r.IntN(5)
	m.between = func() {
		for range m.r.IntN(4) {
			inForce()
			m.step()
			m.check()
		}
		m.steps++
	}
	if err := m.Reload(next); err != nil {
		m.Fatal(err)
	}
	m.reloads, m.between = false, nil
	inForce()
	m.check()
}

// manage is what an administrator does.
func (m *model) manage() {
	m.Helper()
	used := slices.SortedFunc(func(yield func(netip.Addr) bool) {
		for a := range m.tenures {
			if !yield(a) {
				return
			}
		}
	}, netip.Addr.Compare)
	if len(used) == 0 {
		return
	}
	a, ctx := used[m.r.IntN(len(used))], context.Background()
	what := m.r.IntN(12)
	if m.reloads {
		what = max(what, 4)
	}
	switch what {
	case 0:
		m.reopen(m.config)
		m.forgetRests() // one may have been that of another configuration
		m.seesAll()
	case 1:
		m.config = modelConfig(m.r.IntN(modelConfigs))
		m.reopen(m.config)
		m.forgetRests()
		m.seesAll()
	case 2, 3:
		m.reload()
		m.seesAll()
	case 4:
		want := m.last(a) != nil
		if ended, err := m.End(ctx, a); err != nil || ended != want {
			m.Fatalf("ending the lease of %v: %v %v", a, ended, err)
		}
		m.end(a, Released)
		m.sees(a)
	case 5:
		want := m.state(a.String()) == Declined
		if freed, err := m.Unquarantine(ctx, a); err != nil || freed != want {
			m.Fatalf("freeing %v: %v %v", a, freed, err)
		}
		delete(m.resting, a)
	}
}
