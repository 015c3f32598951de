package cecho

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"math/big"
	mathrand "math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// program returns the path of a program, and skips the test where its package is
// not installed.
func program(t *testing.T, name, pkg string) string {
	t.Helper()
	for _, dir := range append(filepath.SplitList(os.Getenv("PATH")), "/usr/sbin") {
		if path, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
			return path
		}
	}
	t.Skipf("%s is not installed (package %s)", name, pkg)
	return ""
}

// serve runs a DICOM server until the test ends, and returns its address once it
// listens. The arguments are made for its port.
func serve(t *testing.T, path string, args func(port string) []string) (host, port string) {
	t.Helper()
	// Below the ports that the kernel gives to clients, one of which could take it meanwhile.
	const lowest, above = 24_000, 26_000 // other packages' tests, at the same time, take others
	l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", lowest+mathrand.IntN(above-lowest)))
	for range 100 {
		if err == nil {
			break
		}
		l, err = net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", lowest+mathrand.IntN(above-lowest)))
	}
	if err != nil {
		t.Fatal(err)
	}
	host, port, _ = net.SplitHostPort(l.Addr().String())
	l.Close()
	var log bytes.Buffer
	cmd := exec.Command(path, args(port)...)
	cmd.Dir = t.TempDir()
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var failed error
	ended := make(chan struct{})
	go func() {
		failed = cmd.Wait()
		close(ended)
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it may have ended
		<-ended
		if t.Failed() {
			t.Logf("%s:\n%s", path, log.String())
		}
	})
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if c, err := net.Dial("tcp", net.JoinHostPort(host, port)); err == nil {
			c.Close()
			return host, port
		}
		select {
		case <-ended:
			t.Fatalf("%s ended: %v", path, failed)
		default:
		}
	}
	t.Fatalf("%s does not listen on port %s", path, port)
	return "", ""
}

// echoscu asks what the client asks, and reports whether it is content.
func echoscu(t *testing.T, calling, called, host, port string, more ...string) bool {
	t.Helper()
	args := append([]string{"-to", "60", "-ta", "60", "-td", "60", "-aet", calling, "-aec", called}, more...)
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, program(t, "echoscu", "dcmtk"), append(args, host, port)...).CombinedOutput()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		t.Fatalf("%v\n%s", err, out)
	}
	return err == nil
}

// want echoes, and compares the verdict with that of echoscu.
func want(t *testing.T, c *Client, called, host, port, wanted string, more ...string) Result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	r, err := c.Echo(ctx, net.JoinHostPort(host, port), called)
	switch {
	case wanted == "" && err != nil:
		t.Errorf("%v", err)
	case wanted != "" && (err == nil || !strings.Contains(err.Error(), wanted)):
		t.Errorf("error %v, want %q", err, wanted)
	}
	calling := c.CallingAE
	if calling == "" {
		calling = DefaultCallingAE
	}
	if theirs := echoscu(t, calling, called, host, port, more...); theirs != (err == nil) {
		t.Errorf("echoscu is content: %v; this client: %v", theirs, err)
	}
	return r
}

func TestStorescp(t *testing.T) {
	path := program(t, "storescp", "dcmtk")
	host, port := serve(t, path, func(port string) []string { return []string{"-aet", "STORESCP", "--ignore", port} })
	r := want(t, &Client{}, "STORESCP", host, port, "")
	if !strings.HasPrefix(r.ImplementationVersion, "OFFIS_DCMTK_") || !strings.HasPrefix(r.ImplementationClass, "1.2.276.0.7230010.3.") {
		t.Errorf("it says it is %q %q", r.ImplementationClass, r.ImplementationVersion)
	}
	t.Logf("connected after %s, associated after %s, answered after %s", r.Connect, r.Associate, r.Answer)
	t.Run("hundred at once", func(t *testing.T) {
		errs := make(chan error, 100)
		for range cap(errs) {
			go func() {
				_, err := (&Client{}).Echo(t.Context(), net.JoinHostPort(host, port), "STORESCP")
				errs <- err
			}()
		}
		for range cap(errs) {
			if err := <-errs; err != nil {
				t.Error(err)
			}
		}
	})
	t.Run("TLS to a plain port", func(t *testing.T) {
		c := &Client{TLS: &tls.Config{InsecureSkipVerify: true}}
		if _, err := c.Echo(t.Context(), net.JoinHostPort(host, port), "STORESCP"); err == nil {
			t.Error("no error")
		}
	})
}

// TestStorescpRefuses: it refuses every association (--refuse).
func TestStorescpRefuses(t *testing.T) {
	host, port := serve(t, program(t, "storescp", "dcmtk"), func(port string) []string { return []string{"--refuse", "--ignore", port} })
	want(t, &Client{}, "STORESCP", host, port, "association: rejected-permanent: no reason given")
}

// certificate makes a key and a certificate for 127.0.0.1 that signs itself.
func certificate(t *testing.T, name string) (keyFile, certFile string, pool *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, DNSNames: []string{name},
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	keyFile, certFile = filepath.Join(dir, "key.pem"), filepath.Join(dir, "cert.pem")
	for path, block := range map[string]*pem.Block{keyFile: {Type: "PRIVATE KEY", Bytes: keyDER}, certFile: {Type: "CERTIFICATE", Bytes: der}} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	pool = x509.NewCertPool()
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool.AddCert(parsed)
	return keyFile, certFile, pool
}

func TestStorescpTLS(t *testing.T) {
	path := program(t, "storescp", "dcmtk")
	key, cert, pool := certificate(t, "storescp.example.org")
	mine, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	t.Run("any client", func(t *testing.T) {
		host, port := serve(t, path, func(port string) []string { return []string{"+tls", key, cert, "-ic", "--ignore", port} })
		anonymous := []string{"+tla", "-ic"}
		want(t, &Client{TLS: &tls.Config{RootCAs: pool, ServerName: "storescp.example.org"}}, "STORESCP", host, port, "", anonymous...)
		want(t, &Client{TLS: &tls.Config{InsecureSkipVerify: true}}, "STORESCP", host, port, "", anonymous...)
		want(t, &Client{TLS: &tls.Config{ServerName: host}}, "STORESCP", host, port, "connecting: tls: failed to verify certificate", "+tla")
		want(t, &Client{TLS: &tls.Config{RootCAs: pool, ServerName: "other.example.org"}}, "STORESCP", host, port, "not other.example.org", anonymous[:1]...)
		want(t, &Client{}, "STORESCP", host, port, "association: ")
	})
	t.Run("known clients", func(t *testing.T) {
		host, port := serve(t, path, func(port string) []string { return []string{"+tls", key, cert, "+cf", cert, "-rc", "--ignore", port} })
		want(t, &Client{TLS: &tls.Config{RootCAs: pool, ServerName: host, Certificates: []tls.Certificate{mine}}}, "STORESCP", host, port, "",
			"+tls", key, cert, "+cf", cert)
		want(t, &Client{TLS: &tls.Config{RootCAs: pool, ServerName: host}}, "STORESCP", host, port, "association: ", "+tla", "-ic")
	})
}

// TestOrthanc asks a PACS that looks at who calls whom.
func TestOrthanc(t *testing.T) {
	path := program(t, "Orthanc", "orthanc")
	run := func(t *testing.T, more map[string]any) (host, port string) {
		return serve(t, path, func(port string) []string {
			dir := t.TempDir()
			config := map[string]any{
				"DicomAet": "ORTHANC", "HttpServerEnabled": false, "StorageDirectory": dir, "IndexDirectory": dir, "Plugins": []string{},
				"DicomPort": json.Number(port),
			}
			maps.Copy(config, more)
			data, err := json.Marshal(config)
			if err != nil {
				t.Fatal(err)
			}
			file := filepath.Join(dir, "orthanc.json")
			if err := os.WriteFile(file, data, 0o600); err != nil {
				t.Fatal(err)
			}
			return []string{file}
		})
	}
	t.Run("called title", func(t *testing.T) {
		host, port := run(t, map[string]any{"DicomCheckCalledAet": true})
		r := want(t, &Client{}, "ORTHANC", host, port, "")
		t.Logf("%+v", r)
		want(t, &Client{}, "ORTHAN", host, port, "association: rejected-permanent: called AE title not recognized")
	})
	t.Run("calling title", func(t *testing.T) {
		host, port := run(t, map[string]any{"DicomAlwaysAllowEcho": false, "DicomModalities": map[string]any{"ws": []any{"KNOWN", "127.0.0.1", 104}}})
		want(t, &Client{CallingAE: "KNOWN"}, "ANY", host, port, "")
		// echoscu calls this a success: it is aborted after the association stands.
		if _, err := (&Client{CallingAE: "STRANGER"}).Echo(t.Context(), net.JoinHostPort(host, port), "ANY"); err == nil ||
			!strings.Contains(err.Error(), "C-ECHO: aborted by the application") {
			t.Errorf("%v", err)
		}
	})
}
