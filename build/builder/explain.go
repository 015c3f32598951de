package builder

import (
	"errors"
	"fmt"
	"os/exec"
	"regexp"
	"strings"
)

// explain puts into one line, before the go command's own words, what a failure
// of it means for the request.
func (w *workspace) explain(doing string, err error) error {
	if errors.Is(err, exec.ErrNotFound) {
		return fmt.Errorf("%s: there is no go command in PATH: building needs Go 1.26 or newer", doing)
	}
	failed := (*goError)(nil)
	if !errors.As(err, &failed) {
		return fmt.Errorf("%s: %w", doing, err)
	}
	output := strings.ReplaceAll(strings.TrimSpace(failed.output), w.dir, ".")
	reason := reasonOf(output)
	if reason == "" {
		reason = failed.Error()
	}
	host := hostTitles[w.request.Host]
	if w.version != "" {
		host += " " + w.version
	}
	reason = strings.ReplaceAll(reason, "HOST", host)
	if output == "" {
		return fmt.Errorf("%s: %s: %w", doing, reason, failed.err)
	}
	return fmt.Errorf("%s: %s\n%s", doing, reason, output)
}

// reasons are what the go command and the compiler say, and what that means; the
// first that fits counts. HOST stands for the host and its version.
var reasons = []struct {
	said  *regexp.Regexp
	means string
}{
	{regexp.MustCompile(`(?m)^(?:go: )?(?:module )?([^\s:@]+).*module lookup disabled by GOPROXY=off`),
		"$1 is not in the module cache, and GOPROXY=off keeps it from being fetched; a version that is there must be named by @VERSION"},
	{regexp.MustCompile(`cgo: C compiler "([^"]+)" not found`),
		"a plugin needs the C compiler $1, which is not installed (of CoreDHCP's own plugins it is range, which can be left out)"},
	{regexp.MustCompile(`(\S+) requires (?:github\.com/coredns/coredns|github\.com/coredhcp/coredhcp)@(\S+), not`),
		"$1 needs another version of the host than HOST: $2"},
	{regexp.MustCompile(`(\S+) requires (\S+), not (\S+)`), "$1 needs $2, and the request has $3"},
	{regexp.MustCompile(`(?m)module (\S+?)@(\S+) found.*, but does not contain package (\S+)`), "$1 $2 has no package $3"},
	{regexp.MustCompile(`(?m)(?:go: )?(?:module )?(\S+?):? (?:invalid version: |no matching versions for query |.*unknown revision )(.+)$`),
		"there is no such version of $1: $2"},
	{regexp.MustCompile(`(?m)^go: (?:module )?(\S+?): .*: (?:400 Bad Request|403 Forbidden|404 Not Found|410 Gone)`), "the module proxy has no $1"},
	{regexp.MustCompile(`(?m)^go: (?:module )?(\S+?): (?:.*: )?(?:dial tcp|lookup|Get).*$`), "$1 cannot be fetched: the module proxy is out of reach (GOPROXY)"},
	{regexp.MustCompile(`(\S+)(?:@\S+)?: (?:verifying|checksum mismatch)`), "$1 is not what its checksum says, or the checksum database is out of reach"},
	{regexp.MustCompile(`undefined: p\d+\.Plugin`), "a package that was added has no variable Plugin, so it is no plugin of CoreDHCP"},
	{regexp.MustCompile(`import cycle not allowed`), "the plugins import each other"},
	{regexp.MustCompile(`build constraints exclude all Go files in (\S+)`), "a plugin is not for this system: $1"},
	{regexp.MustCompile(`(?m)^# (\S+)\n(?:# .*\n)?(.+:\d+:\d+: .+)$`), "$1 does not compile with HOST: $2"},
	{regexp.MustCompile(`no space left on device`), "the disk is full"},
}

// reasonOf is the meaning of what was said, in one line; "" if it is not known.
func reasonOf(output string) string {
	for _, r := range reasons {
		if m := r.said.FindStringSubmatchIndex(output); m != nil {
			return string(r.said.ExpandString(nil, r.means, output, m))
		}
	}
	return ""
}
