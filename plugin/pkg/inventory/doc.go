// Package inventory moves a site's devices between the site file and what departments, archives and directories keep: the spreadsheet
// they come from, and the tables of hosts, AE titles and ports that other programs want.
//
// A spreadsheet is written by people for people: its columns have many names and orders, its cells many notations. This package knows
// those, and nothing of what makes a device right. It writes the devices as the site file has them and lets package site judge that,
// so there is one place for the rules; what site finds is told by the row and column of the sheet that it came from.
//
// Reading what WriteCSV wrote gives the same devices again, but for what a sheet has no column for: DHCP options.
package inventory

import (
	"fmt"
	"strings"
)

// Problem is an error or a warning about one place of a spreadsheet.
type Problem struct {
	File    string
	Row     int    // counts from 1 as spreadsheet programs count, the header included; 0: the file as a whole
	Column  int    // counts from 1; 0: the row as a whole
	Header  string // of the column, as the sheet has it
	Message string
}

// String returns the problem as `devices.csv: row 5, column C ("IP address"): message`.
func (p Problem) String() string {
	switch {
	case p.Row == 0:
		return fmt.Sprintf("%s: %s", p.File, p.Message)
	case p.Column == 0:
		return fmt.Sprintf("%s: row %d: %s", p.File, p.Row, p.Message)
	case p.Header == "":
		return fmt.Sprintf("%s: row %d, column %s: %s", p.File, p.Row, letters(p.Column), p.Message)
	}
	return fmt.Sprintf("%s: row %d, column %s (%q): %s", p.File, p.Row, letters(p.Column), p.Header, p.Message)
}

// letters names a column as spreadsheet programs do: A to Z, AA and so on.
func letters(n int) string {
	var s string
	for ; n > 0; n = (n - 1) / 26 {
		s = string(rune('A'+(n-1)%26)) + s
	}
	return s
}

// Errors are all the errors of one spreadsheet, in the order of its rows.
type Errors []Problem

// Error returns the problems, one a line.
func (e Errors) Error() string {
	lines := make([]string, len(e))
	for i, p := range e {
		lines[i] = p.String()
	}
	return strings.Join(lines, "\n")
}
