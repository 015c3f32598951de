//go:build linux

package integration

import (
	"encoding/xml"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/pcapgo"

	"github.com/dicomnam/dicomnam/integration/lab"
	"github.com/dicomnam/dicomnam/plugin/pkg/dhcpopt"
)

// A pdmlField is a field of a packet as tshark takes it apart.
type pdmlField struct {
	Name     string      `xml:"name,attr"`
	Show     string      `xml:"show,attr"`
	ShowName string      `xml:"showname,attr"`
	Value    string      `xml:"value,attr"`
	Fields   []pdmlField `xml:"field"`
}

// A pdmlMessage is a DHCP message as tshark takes it apart.
type pdmlMessage struct {
	time   time.Time // of its capture
	fields []pdmlField
}

// field is the first field with a name.
func (m pdmlMessage) field(name string) pdmlField {
	for _, f := range m.fields {
		if f.Name == name {
			return f
		}
	}
	return pdmlField{}
}

// tshark takes apart DHCP messages, each a datagram's content.
func tshark(t *testing.T, l *lab.Lab, messages [][]byte) []pdmlMessage {
	t.Helper()
	path := filepath.Join(l.Dir, "messages.pcap")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	w := pcapgo.NewWriter(f)
	if err := w.WriteFileHeader(65536, layers.LinkTypeEthernet); err != nil {
		t.Fatal(err)
	}
	for _, m := range messages {
		ip := &layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocolUDP, SrcIP: []byte{192, 0, 2, 2}, DstIP: []byte{192, 0, 2, 9}}
		udp := &layers.UDP{SrcPort: 67, DstPort: 68}
		if err := udp.SetNetworkLayerForChecksum(ip); err != nil {
			t.Fatal(err)
		}
		b := gopacket.NewSerializeBuffer()
		if err := gopacket.SerializeLayers(b, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true},
			&layers.Ethernet{SrcMAC: []byte{0, 0, 0x5e, 0, 0x53, 0xfe}, DstMAC: []byte{0, 0, 0x5e, 0, 0x53, 1}, EthernetType: layers.EthernetTypeIPv4},
			ip, udp, gopacket.Payload(m)); err != nil {
			t.Fatal(err)
		}
		if err := w.WritePacket(gopacket.CaptureInfo{Timestamp: time.Now(), CaptureLength: len(b.Bytes()), Length: len(b.Bytes())}, b.Bytes()); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	return pdmlOf(t, l, path)
}

// pdmlOf has tshark take apart the DHCP messages of a capture file.
func pdmlOf(t *testing.T, l *lab.Lab, path string) []pdmlMessage {
	t.Helper()
	out, err := l.Output(timeout(t, patience), l.Server, "tshark", "-n", "-r", path, "-Y", "dhcp", "-T", "pdml")
	if err != nil {
		t.Fatal(err)
	}
	var pdml struct {
		Packets []struct {
			Protos []struct {
				Name   string      `xml:"name,attr"`
				Fields []pdmlField `xml:"field"`
			} `xml:"proto"`
		} `xml:"packet"`
	}
	if err := xml.Unmarshal(out, &pdml); err != nil {
		t.Fatal(err)
	}
	var messages []pdmlMessage
	for _, p := range pdml.Packets {
		var m pdmlMessage
		for _, proto := range p.Protos {
			switch proto.Name {
			case "frame":
				seconds, err := strconv.ParseFloat(pdmlMessage{fields: proto.Fields}.field("frame.time_epoch").Show, 64)
				if err != nil {
					t.Fatal(err)
				}
				m.time = time.UnixMilli(int64(seconds * 1000))
			case "dhcp":
				m.fields = proto.Fields
			}
		}
		messages = append(messages, m)
	}
	return messages
}

// leaves are what tshark makes of an option's value: the texts of the innermost
// fields. The value as a whole is not among them, and faults that it found are in
// faults.
func (f pdmlField) leaves() (texts, faults []string) {
	for _, child := range f.Fields {
		switch {
		case child.Name == "dhcp.option.length" || child.Name == "dhcp.option.value":
		case child.Name == "_ws.expert":
			for _, e := range child.Fields {
				faults = append(faults, e.Show)
			}
		case child.Name == "dhcp.option.classless_static_route":
			texts = append(texts, strings.TrimSpace(child.ShowName)) // show has the octets only
		case len(child.Fields) > 0:
			more, wrong := child.leaves()
			texts, faults = append(texts, more...), append(faults, wrong...)
		default:
			texts = append(texts, child.Show)
		}
	}
	return texts, faults
}

// whole is an option's value in hexadecimal digits with colons, as tshark shows it.
func (f pdmlField) whole() string {
	for _, child := range f.Fields {
		if child.Name == "dhcp.option.value" {
			return child.Show
		}
	}
	return ""
}

// undissected are options that tshark 4.0 shows as octets, or as a name with the
// octets of its lengths.
var undissected = []dhcpopt.Code{62, 88, 89, 95, 98, 108, 137, 141, 147, 148, 211, 213}

// tsharkTexts are the texts that tshark shows for the values of a case.
func tsharkTexts(c optionCase) []string {
	var texts []string
	for _, v := range c.values {
		switch c.Type {
		case dhcpopt.Bool, dhcpopt.SLPAgents, dhcpopt.SLPScope:
			texts = append(texts, map[string]string{"true": "1", "false": "0"}[v])
			if texts[len(texts)-1] == "" {
				texts[len(texts)-1] = v
			}
		case dhcpopt.IPv4Prefixes:
			address, mask, _ := strings.Cut(strings.NewReplacer("/24", " 255.255.255.0", "/25", " 255.255.255.128").Replace(v), " ")
			texts = append(texts, address, mask)
		case dhcpopt.Routes:
			destination, router, _ := strings.Cut(v, " via ")
			texts = append(texts, destination, router)
		case dhcpopt.ClasslessRoutes:
			texts = append(texts, strings.Replace(strings.Replace(v, " via ", "-", 1), "default-", "default-", 1))
		case dhcpopt.SIPServers:
			if texts == nil {
				texts = append(texts, "0")
			}
			texts = append(texts, v)
		default:
			texts = append(texts, v)
		}
	}
	return texts
}

// Whatever a site file says of an option, Wireshark reads it off the wire.
func TestOptionsParsed(t *testing.T) {
	t.Parallel()
	needs(t, "tshark")
	cases := optionCases(t)
	l := newLab(t)
	startSite(t, l, optionsSite(cases))
	a := newAsker(t, l)
	var messages [][]byte
	for _, codes := range batches(cases) {
		_, raw := a.discover(t, codes)
		messages = append(messages, raw)
	}
	parsed := map[string]pdmlField{}
	for _, m := range tshark(t, l, messages) {
		for _, f := range m.fields {
			if f.Name == "dhcp.option.type" {
				parsed[f.Show] = f
			}
		}
	}
	for _, c := range cases {
		f, ok := parsed[strconv.Itoa(int(c.Code))]
		if !ok {
			t.Errorf("%s: tshark does not see it", c)
			continue
		}
		texts, faults := f.leaves()
		want := tsharkTexts(c)
		switch {
		case typedCases[c.Name].tshark != nil:
			want = typedCases[c.Name].tshark
		case c.Type == dhcpopt.Bytes: // to which it gives no meaning
			texts, faults = []string{f.whole()}, nil
		case c.Code == 43: // without a vendor class it says no more
			texts, want = []string{f.whole()}, []string{"06:01:08:47:08:c0:00:02:07:c0:00:02:08:09:08:50:72:65:73:73:20:46:38"}
		case c.Code == 125: // lengths and values
			want = []string{"11", "3", "61:62:63", "4", "c0:00:02:09"}
		case c.Code == 117:
			want = []string{"Domain Name Server Option (6)", "NetBIOS over TCP/IP Name Server Option (44)"}
		case slices.Contains(undissected, c.Code):
			data, err := c.Encode(c.values)
			if err != nil {
				t.Fatal(err)
			}
			texts, want = []string{f.whole()}, []string{dhcpopt.Option{Type: dhcpopt.Bytes}.Format(data)}
		}
		if !slices.Equal(texts, want) || faults != nil {
			t.Errorf("%s: tshark reads %q and finds fault with %q, the site file has %q", c, texts, faults, want)
		}
	}
}
