package server

import (
	"fmt"
	"slices"
	"strings"
)

// Args reads a plugin's arguments of the form key=value. Each key must be one of
// the known ones and stand once; a value may contain further equals signs but
// not be empty. Errors quote the argument they are about.
func Args(args []string, known ...string) (map[string]string, error) {
	values := make(map[string]string, len(args))
	for _, arg := range args {
		key, value, found := strings.Cut(arg, "=")
		switch {
		case !found || key == "":
			return nil, fmt.Errorf("argument %q: expected key=value", arg)
		case !slices.Contains(known, key):
			return nil, fmt.Errorf("argument %q: unknown key %q, expected one of %s", arg, key, strings.Join(known, ", "))
		case value == "":
			return nil, fmt.Errorf("argument %q: %s has no value", arg, key)
		}
		if _, twice := values[key]; twice {
			return nil, fmt.Errorf("argument %q: %s is given twice", arg, key)
		}
		values[key] = value
	}
	return values, nil
}
