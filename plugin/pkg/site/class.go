package site

import (
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
