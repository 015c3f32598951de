package site

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/dicomnam/dicomnam/plugin/pkg/site/internal/strictyaml"
)

// Position is a place in the site file. Lines and columns count from 1, columns in characters.
type Position struct{ Line, Column int }

// Problem is an error or a warning about one place in the site file.
type Problem struct {
	File string
	Position
	Message string // one line, without file and position
}

// String returns the problem as "site.yaml:12:5: message".
func (p Problem) String() string {
	return fmt.Sprintf("%s:%d:%d: %s", p.File, p.Line, p.Column, p.Message)
}

// SyntaxProblem returns what a YAML parser found wrong in data, with the line of the mistake, which its error err does not always have.
func SyntaxProblem(file string, data []byte, err error) Problem {
	line, message := strictyaml.SyntaxError(data, err)
	return Problem{file, Position{line, 1}, message}
}

// Errors are all the errors of one site file, in the order of their positions.
type Errors []Problem

// Error returns the problems, one per line.
func (e Errors) Error() string {
	lines := make([]string, len(e))
	for i, p := range e {
		lines[i] = p.String()
	}
	return strings.Join(lines, "\n")
}

// problems collects problems up to maxProblems, and counts the rest.
type problems struct {
	list    []Problem
	dropped int
}

func (ps *problems) add(p Problem) {
	if len(ps.list) >= maxProblems {
		ps.dropped++
		return
	}
	ps.list = append(ps.list, p)
}

// sorted returns the problems by position; those of one place keep the order in which they were found.
// If there were too many, the last one says so; what is "errors" or "warnings".
func (ps *problems) sorted(what string) []Problem {
	slices.SortStableFunc(ps.list, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	if ps.dropped == 0 {
		return ps.list
	}
	last := ps.list[len(ps.list)-1]
	last.Message = fmt.Sprintf("and %d more %s, which are not listed", ps.dropped, what)
	return append(ps.list, last)
}
