package site

import (
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

var (
	classKeys  = []string{"name", "user-class", "vendor-class", "circuit-id", "remote-id", "htype", "options"}
	classMarks = classKeys[1:6]
)

func (p *parser) class(n *yaml.Node) {
	f, ok := p.Mapping(n, "a class", classKeys)
	if !ok {
		return
	}
	f.Require("a class", "name")
	c := Class{
		Position:     position(n),
		Name:         f.Text("name", maxNameText),
		UserClass:    f.Text("user-class", 255),
		VendorClass:  f.Text("vendor-class", 255),
		CircuitID:    p.identifier(f.Get("circuit-id"), "circuit-id", 1),
		RemoteID:     p.identifier(f.Get("remote-id"), "remote-id", 1),
		HardwareType: uint8(f.Number("htype", 1, 255)),
		Options:      p.options(f, false),
		place:        len(p.site.Classes),
	}
	p.claim(p.claims.classes, f, "name", c.Name, "class")
	var marks []string
	for _, key := range classMarks {
		if f.Get(key) != nil {
			marks = append(marks, key)
		}
	}
	if len(marks) != 1 {
		found := "none"
		if marks != nil {
			found = strings.Join(marks, " and ")
		}
		p.Errorf(n, "class %q: found %s, expected exactly one of %s", c.Name, found, strings.Join(classMarks, ", "))
	}
	p.site.Classes = append(p.site.Classes, c)
}

// Marks are what a client, or the relay before it, says that classes are recognised by. All may be empty.
type Marks struct {
	HardwareType uint8    // htype
	UserClasses  []string // option 77
	VendorClass  string   // option 60
	CircuitID    string   // option 82, sub-option 1
	RemoteID     string   // option 82, sub-option 2
}

// ClassesOf returns the classes that a client with these marks is in, in the file's order, each once. A vendor class is recognised by how
// it begins, since clients append versions to it; every other mark as a whole. The cost does not grow with the number of classes.
func (s *Site) ClassesOf(m Marks) []*Class {
	x := &s.index.classes
	if len(s.Classes) == 0 {
		return nil
	}
	found := slices.Clone(x.hardware[m.HardwareType])
	for _, c := range m.UserClasses {
		found = append(found, x.user[c]...)
	}
	for _, n := range x.vendorLengths {
		if n > len(m.VendorClass) {
			break
		}
		found = append(found, x.vendor[m.VendorClass[:n]]...)
	}
	found = append(found, x.circuit[m.CircuitID]...)
	found = append(found, x.remote[m.RemoteID]...)
	slices.Sort(found)
	found = slices.Compact(found)
	classes := make([]*Class, len(found))
	for i, at := range found {
		classes[i] = &s.Classes[at]
	}
	return classes
}

// classIndex finds classes by their marks; its values are places in Site.Classes.
type classIndex struct {
	hardware                      map[uint8][]int
	user, vendor, circuit, remote map[string][]int
	vendorLengths                 []int // of the keys of vendor, the shortest first
}

func newClassIndex(classes []Class) classIndex {
	x := classIndex{
		hardware: make(map[uint8][]int), user: make(map[string][]int), vendor: make(map[string][]int),
		circuit: make(map[string][]int), remote: make(map[string][]int),
	}
	for i, c := range classes {
		switch {
		case c.UserClass != "":
			x.user[c.UserClass] = append(x.user[c.UserClass], i)
		case c.VendorClass != "":
			x.vendor[c.VendorClass] = append(x.vendor[c.VendorClass], i)
			x.vendorLengths = append(x.vendorLengths, len(c.VendorClass))
		case c.CircuitID != nil:
			x.circuit[string(c.CircuitID)] = append(x.circuit[string(c.CircuitID)], i)
		case c.RemoteID != nil:
			x.remote[string(c.RemoteID)] = append(x.remote[string(c.RemoteID)], i)
		default:
			x.hardware[c.HardwareType] = append(x.hardware[c.HardwareType], i)
		}
	}
	slices.Sort(x.vendorLengths)
	x.vendorLengths = slices.Compact(x.vendorLengths)
	return x
}
