package strictyaml

import (
	"fmt"
	"strings"
	"testing"
)

func TestNearest(t *testing.T) {
	keys := []string{"name", "address", "hardware-address", "hostname", "port", "path"}
	tests := map[string]string{
		"adress": "address", "adderss": "address", "hardware_address": "hardware-address", "HostName": "hostname", "nmae": "name", "prt": "port", //nolint:misspell // a misspelling is what is tested
		"": "", "x": "", "subnet": "", "completely-different": "", strings.Repeat("address", 20): "",
	}
	for word, want := range tests {
		t.Run(word, func(t *testing.T) {
			if got := new(Reader).Nearest(word, keys); got != want {
				t.Errorf("got %q, want %q", got, want)
			}
			if got := (&Reader{Terse: true}).Nearest(word, keys); got != "" {
				t.Errorf("terse: got %q", got)
			}
		})
	}
}

func TestQuote(t *testing.T) {
	tests := map[string]string{
		"a":                           `"a"`,
		"a\n\"b\"":                    `"a\n\"b\""`,
		strings.Repeat("x", 60):       `"` + strings.Repeat("x", 60) + `"`,
		strings.Repeat("x", 61):       `"` + strings.Repeat("x", 60) + `"...`,
		"x" + strings.Repeat("ä", 40): `"x` + strings.Repeat("ä", 29) + `"...`, // not in the middle of a character
	}
	for v, want := range tests {
		if got := Quote(v); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

// TestPositions holds that problems stand where the value stands, also behind characters of several octets.
func TestPositions(t *testing.T) {
	var got []string
	r := &Reader{Report: func(line, column int, message string) {
		got = append(got, fmt.Sprintf("%d:%d: %s", line, column, message))
	}}
	root := r.Document([]byte("ä: [ö, {k: 1}]\n\"b\": x # comment\nc:\n  true\n"))
	if root == nil {
		t.Fatal(got)
	}
	f, ok := r.Mapping(root, "a thing", []string{"ä", "b", "c"})
	if !ok {
		t.Fatal(got)
	}
	for _, n := range f.Get("ä").Content {
		r.Expected(n, "ä", "else")
	}
	f.Number("b", 0, 9)
	f.Choice("c", []string{"one", "two"}, 0)
	f.Require("a thing", "d")
	want := []string{
		`1:5: ä: found "ö", expected else`, `1:8: ä: found a mapping, expected else`, `2:6: b: found "x", expected a whole number from 0 to 9`,
		`4:3: c: found "true", expected one of one, two`, `1:1: a thing needs the key "d", which is missing`,
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}
