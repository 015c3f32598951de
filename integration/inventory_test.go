//go:build linux

package integration

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/dicomnam/dicomnam/integration/lab"
	"github.com/dicomnam/dicomnam/integration/radiology"
)

// department is a site with what is awkward to write in a table.
const department = `domain: imaging.example.org
networks:
  - {name: radiology, subnet: 192.0.2.0/24, pools: [192.0.2.100-192.0.2.199]}
devices:
  - name: ct1
    type: CT
    address: 192.0.2.11
    description: "Süd, 1st floor <left>"
    manufacturer: Example
    applications:
      - {ae-title: CT1, port: 11104}
      - {ae-title: CT1_TLS, port: 2762, protocol: dicom-tls}
  - name: "Scanner, \"2\" = ü"
    hostname: scanner2
    type: [PT, CT]
    address: 192.0.2.12
    installed: false
    applications: [{ae-title: "PET,CT 2", port: 104}]
  - name: arc1
    type: ARCHIVE
    cluster: archive
    address: 192.0.2.13
    applications: [{ae-title: ARCHIVE, port: 11112, name: "The archive"}]
  - name: arc2
    type: ARCHIVE
    cluster: archive
    address: 192.0.2.14
    applications: [{ae-title: ARCHIVE, port: 11112, name: "The archive"}, {port: 8080, protocol: dicomweb, name: web, path: /dicom-web}]
  - {name: switch1, address: 192.0.2.15, dhcp: false}
`

// exported writes the department's site file into the lab, and returns what
// dicomnam exports of it.
func exported(t *testing.T, l *lab.Lab, args ...string) string {
	t.Helper()
	site := filepath.Join(l.Dir, "site.yaml")
	if err := os.WriteFile(site, []byte(department), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := l.Output(timeout(t, patience), l.Server, filepath.Join(binaries(t), "dicomnam"), append([]string{"export", site}, args...)...)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

func writeIn(t *testing.T, l *lab.Lab, name, text string) string {
	t.Helper()
	path := filepath.Join(l.Dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// output runs a program that must succeed.
func output(t *testing.T, l *lab.Lab, n *lab.Namespace, program string, args ...string) string {
	t.Helper()
	out, err := l.Output(timeout(t, patience), n, program, args...)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

// OpenLDAP takes the schema of PS3.15 H.1.3 and the site as H.1 has it, finds an
// AE by its title, from there its host and port, and gives no title out twice.
func TestDirectory(t *testing.T) {
	t.Parallel()
	for _, program := range []string{"slapd", "slapadd", "ldapsearch", "ldapadd"} {
		needs(t, program)
	}
	if err := lab.Confined("slapd"); err != nil {
		t.Skip(err)
	}
	l := newLab(t)
	const base = "o=Example Hospital"
	schema := writeIn(t, l, "dicom.schema", exported(t, l, "--format", "schema"))
	ldif := writeIn(t, l, "site.ldif", exported(t, l, "--format", "ldif", "--base", base))
	root := writeIn(t, l, "root.ldif", "dn: "+base+"\nobjectClass: organization\no: Example Hospital\n")
	if err := os.Mkdir(filepath.Join(l.Dir, "ldap"), 0o700); err != nil {
		t.Fatal(err)
	}
	conf := writeIn(t, l, "slapd.conf", fmt.Sprintf("include /etc/ldap/schema/core.schema\ninclude %s\nmodulepath /usr/lib/ldap\nmoduleload back_mdb\n"+
		"pidfile %s\ndatabase mdb\nsuffix %q\nrootdn \"cn=admin,%s\"\nrootpw secret\ndirectory %s\nmaxsize 16777216\n",
		schema, filepath.Join(l.Dir, "slapd.pid"), base, base, filepath.Join(l.Dir, "ldap")))
	for _, file := range []string{root, ldif} {
		output(t, l, l.Server, "slapadd", "-f", conf, "-l", file)
	}
	url := "ldap://" + radiology.Server.Addr().String()
	p, err := l.Start(l.Server, lab.Command{Name: "slapd", Path: "slapd", Args: []string{"-d", "0", "-f", conf, "-h", url}})
	if err != nil {
		t.Fatal(err)
	}
	waitTCP(t, p, l.Server, netip.AddrPortFrom(radiology.Server.Addr(), 389))
	search := func(from, scope, filter string) string {
		return output(t, l, l.Server, "ldapsearch", "-x", "-LLL", "-o", "ldif-wrap=no", "-H", url, "-b", from, "-s", scope, filter)
	}
	expectIn := func(what, got string, want ...string) {
		t.Helper()
		for _, w := range want {
			if !strings.Contains(got, w) {
				t.Errorf("%s:\n%s\nwant in it: %s", what, got, w)
			}
		}
	}
	ct1 := search(base, "sub", "(&(objectClass=dicomNetworkAE)(dicomAETitle=CT1))")
	const connection = "cn=dicom-11104,dicomDeviceName=ct1,cn=Devices,cn=DICOM Configuration," + base
	expectIn("AE CT1", ct1, "dicomNetworkConnectionReference: "+connection, "dicomAssociationAcceptor: TRUE")
	expectIn("its connection", search(connection, "base", "(objectClass=*)"), "dicomHostname: ct1.imaging.example.org", "dicomPort: 11104")
	if got := search(base, "sub", "(&(objectClass=dicomNetworkAE)(dicomAETitle=ct1))"); got != "" {
		t.Errorf("the case of an AE title counts, but ct1 is found:\n%s", got)
	}
	expectIn("connections that are TLS", search(base, "sub", "(&(objectClass=dicomNetworkConnection)(dicomTLSCipherSuite=*))"), "dicomPort: 2762")
	expectIn("an awkward title", search(base, "sub", "(&(objectClass=dicomNetworkAE)(dicomAETitle=PET,CT 2))"), "dicomAETitle: PET,CT 2")
	expectIn("its device", search(base, "sub", "(dicomPrimaryDeviceType=PT)"), "dicomInstalled: FALSE", "dicomPrimaryDeviceType: CT")
	expectIn("a description", search(base, "sub", "(dicomDescription=Süd, 1st floor <left>)"), "dn: dicomDeviceName=ct1,")
	if got := search(base, "sub", "(&(objectClass=dicomNetworkAE)(dicomApplicationCluster=archive))"); strings.Count(got, "dn: dicomAETitle=ARCHIVE,") != 2 {
		t.Errorf("the cluster's AEs:\n%s", got)
	}
	if got := search(base, "sub", "(dicomDeviceName=switch1)"); got != "" {
		t.Errorf("a switch is no DICOM device:\n%s", got)
	}
	taken := writeIn(t, l, "taken.ldif", "dn: dicomAETitle=CT1,cn=Unique AE Titles Registry,cn=DICOM Configuration,"+base+"\nobjectClass: dicomUniqueAETitle\ndicomAETitle: CT1\n")
	_, err = l.Output(timeout(t, patience), l.Server, "ldapadd", "-x", "-H", url, "-D", "cn=admin,"+base, "-w", "secret", "-f", taken)
	if err == nil || !strings.Contains(err.Error(), "Already exists (68)") {
		t.Errorf("taking the AE title CT1 once more: %v, expected Already exists", err)
	}
}

// beAt gives the client's end of the wire a device's address.
func beAt(t *testing.T, l *lab.Lab, a string) {
	t.Helper()
	err := l.Client.Do(func() error {
		link, err := netlink.LinkByName(lab.Link)
		if err != nil {
			return err
		}
		addr, err := netlink.ParseAddr(a + "/24")
		if err != nil {
			return err
		}
		return netlink.AddrAdd(link, addr)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// storescp is dcmtk's, as the device ct1.
func storescp(t *testing.T, l *lab.Lab) {
	t.Helper()
	beAt(t, l, "192.0.2.11")
	p, err := l.Start(l.Client, lab.Command{Name: "storescp", Path: "storescp", Args: []string{"-v", "-aet", "CT1", "-od", l.Dir, "11104"}})
	if err != nil {
		t.Fatal(err)
	}
	waitTCP(t, p, l.Client, netip.MustParseAddrPort("192.0.2.11:11104"))
}

// echoes has a device ask an archive by C-ECHO, and says whether that was answered with success: echoscu ends well also after a refusal.
func echoes(t *testing.T, l *lab.Lab, calling, called string, port string) error {
	t.Helper()
	out, err := l.Output(timeout(t, patience), l.Client, "sh", "-c", `exec "$@" 2>&1`, "sh",
		"echoscu", "-v", "-to", "10", "-aet", calling, "-aec", called, radiology.Server.Addr().String(), port)
	if err == nil && !strings.Contains(string(out), "Received Echo Response (Success)") {
		err = fmt.Errorf("no success:\n%s", out)
	}
	return err
}

// Orthanc knows the devices from the export: it asks them, and answers them and
// nobody else.
func TestOrthanc(t *testing.T) {
	t.Parallel()
	for _, program := range []string{"Orthanc", "storescp", "echoscu"} {
		needs(t, program)
	}
	l := newLab(t)
	writeIn(t, l, "orthanc/modalities.json", exported(t, l, "--format", "orthanc", "--numeric"))
	writeIn(t, l, "orthanc/orthanc.json", fmt.Sprintf(`{"DicomAet": "ORTHANC", "DicomPort": 4242, "HttpPort": 8042, "StorageDirectory": %q, "IndexDirectory": %[1]q,
		"RemoteAccessAllowed": true, "AuthenticationEnabled": false, "DicomAlwaysAllowEcho": false, "DicomCheckModalityHost": true, "Plugins": []}`, filepath.Join(l.Dir, "store")))
	storescp(t, l)
	p, err := l.Start(l.Server, lab.Command{Name: "orthanc", Path: "Orthanc", Args: []string{filepath.Join(l.Dir, "orthanc")}})
	if err != nil {
		t.Fatal(err)
	}
	at := netip.AddrPortFrom(radiology.Server.Addr(), 8042)
	waitTCP(t, p, l.Server, at)
	waitTCP(t, p, l.Server, netip.AddrPortFrom(radiology.Server.Addr(), 4242)) // it takes associations later than HTTP
	client := &http.Client{Transport: &http.Transport{DialContext: func(_ context.Context, network, _ string) (net.Conn, error) {
		return l.Server.Dial(network, at)
	}}}
	defer client.CloseIdleConnections()
	ask := func(method, path string) (int, string) {
		request, err := http.NewRequestWithContext(timeout(t, patience), method, "http://"+at.String()+path, strings.NewReader("{}"))
		if err != nil {
			t.Fatal(err)
		}
		response, err := client.Do(request)
		if err != nil {
			t.Fatalf("%v\n%s", err, p.Tail(10))
		}
		defer response.Body.Close()
		body, err := io.ReadAll(response.Body)
		if err != nil {
			t.Fatal(err)
		}
		return response.StatusCode, string(body)
	}
	if code, body := ask(http.MethodGet, "/modalities"); code != http.StatusOK || !strings.Contains(body, `"ARCHIVE-2"`) || strings.Contains(body, "PET_CT_2") {
		t.Errorf("modalities: %d %s", code, body)
	}
	if code, body := ask(http.MethodPost, "/modalities/CT1/echo"); code != http.StatusOK {
		t.Errorf("Orthanc asks CT1: %d %s\n%s", code, body, p.Tail(5))
	}
	if code, _ := ask(http.MethodPost, "/modalities/CT1_TLS/echo"); code == http.StatusOK {
		t.Error("Orthanc got an answer of CT1_TLS, where nobody listens")
	}
	if err := echoes(t, l, "CT1", "ORTHANC", "4242"); err != nil {
		t.Errorf("CT1 asks Orthanc: %v\n%s", err, p.Tail(5))
	}
	if err := echoes(t, l, "STRANGER", "ORTHANC", "4242"); err == nil {
		t.Error("Orthanc answers a stranger")
	}
}

// dcmqrscp reads its host table, and lets in whom it names.
func TestDcmqrscp(t *testing.T) {
	t.Parallel()
	for _, program := range []string{"dcmqrscp", "echoscu"} {
		needs(t, program)
	}
	l := newLab(t)
	table := exported(t, l, "--format", "dcmqrscp", "--numeric")
	if err := os.Mkdir(filepath.Join(l.Dir, "db"), 0o700); err != nil {
		t.Fatal(err)
	}
	conf := writeIn(t, l, "dcmqrscp.cfg", fmt.Sprintf("NetworkTCPPort = 11113\nMaxPDUSize = 16384\nMaxAssociations = 16\n\n%s\nVendorTable BEGIN\nVendorTable END\n\n"+
		"AETable BEGIN\nSTORE %s RW (9, 1024mb) site\nAETable END\n", table, filepath.Join(l.Dir, "db")))
	beAt(t, l, "192.0.2.11")
	p, err := l.Start(l.Server, lab.Command{Name: "dcmqrscp", Path: "dcmqrscp", Args: []string{"-v", "--single-process", "-c", conf}})
	if err != nil {
		t.Fatal(err)
	}
	waitTCP(t, p, l.Server, netip.AddrPortFrom(radiology.Server.Addr(), 11113))
	if err := echoes(t, l, "CT1", "STORE", "11113"); err != nil {
		t.Errorf("CT1 asks dcmqrscp: %v\n%s", err, p.Tail(10))
	}
	if err := echoes(t, l, "STRANGER", "STORE", "11113"); err == nil {
		t.Errorf("dcmqrscp answers a stranger\n%s", p.Tail(10))
	}
}
