package build

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var namedTest = regexp.MustCompile(`\[(Test\w+)\]\(([^)#]+)\)`)

// What the conformance statement says is shown by tests that are there.
func TestConformanceStatement(t *testing.T) {
	const statement = "../docs/conformance.md"
	text, err := os.ReadFile(statement)
	if err != nil {
		t.Fatal(err)
	}
	found := namedTest.FindAllStringSubmatch(string(text), -1)
	if len(found) < 50 {
		t.Errorf("%s names %d tests, expected one for each line", statement, len(found))
	}
	for _, m := range found {
		source, err := os.ReadFile(filepath.Join("..", "docs", m[2]))
		if err != nil {
			t.Error(err)
			continue
		}
		if !strings.Contains(string(source), "func "+m[1]+"(t *testing.T)") {
			t.Errorf("%s names %s, which is not in %s", statement, m[1], m[2])
		}
	}
}
