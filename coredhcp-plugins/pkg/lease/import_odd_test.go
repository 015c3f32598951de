package lease

import (
	"testing"
	"time"
)

// What another server has written is not always what this one would: each address is kept all the same.
func TestImportOddities(t *testing.T) {
	for name, list := range map[string]func(f *fixture) []Imported{
		"one client has two addresses": func(f *fixture) []Imported {
			return []Imported{f.lasting("198.51.100.11", client(1), 2*time.Hour), f.lasting("198.51.100.14", client(1), time.Hour)}
		},
		"one client has two addresses, of one name": func(f *fixture) []Imported {
			a, b := f.lasting("198.51.100.11", client(1), time.Hour), f.lasting("198.51.100.14", client(1), 2*time.Hour)
			a.Hostname, b.Hostname = "reading7", "reading7"
			return []Imported{a, b}
		},
		"two clients have one name": func(f *fixture) []Imported {
			a, b := f.lasting("198.51.100.11", client(1), time.Hour), f.lasting("198.51.100.14", client(2), 2*time.Hour)
			a.Hostname, b.Hostname = "reading7", "READING7."
			return []Imported{a, b}
		},
		"it ends in the year 9999": func(f *fixture) []Imported {
			l := f.lasting("198.51.100.11", client(1), time.Hour)
			l.Expires = time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)
			return []Imported{l}
		},
		"it began in 1970": func(f *fixture) []Imported {
			l := f.lasting("198.51.100.11", client(1), time.Hour)
			l.Start = time.Unix(0, 0)
			return []Imported{l}
		},
		"it begins in the year 9999": func(f *fixture) []Imported {
			l := f.lasting("198.51.100.11", client(1), time.Hour)
			l.Start = time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)
			return []Imported{l}
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := open(t, testConfig())
			f.clock.advance(time.Second)
			imported := list(f)
			for i, o := range f.bring(imported...) {
				if !o.Taken || o.Note != "" {
					t.Errorf("%s: %+v", imported[i].Address, o)
				}
			}
			for range 2 {
				for _, l := range imported {
					if got, _ := f.Lease(l.Address); got.State != Active || got.Client != l.Client {
						t.Errorf("%s: %+v", l.Address, got)
					}
				}
				for n := range byte(20) {
					o := f.discover(query(client(0x40+n), link2))
					for _, l := range imported {
						if o.Kind == Offer && o.Lease.Address == l.Address {
							t.Errorf("%s was offered to a stranger", l.Address)
						}
					}
				}
				f.reopen(testConfig())
			}
		})
	}
}
