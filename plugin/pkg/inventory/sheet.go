package inventory

import (
	"bufio"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

const (
	// MaxSize bounds a spreadsheet, in octets.
	MaxSize = 16 << 20
	// maxTitleRows is how many rows may stand above the header.
	maxTitleRows = 20
	maxColumns   = 200
	maxProblems  = 1000
)

// Sheet is the devices of a spreadsheet, as its cells say them. What is right of it only a site file can tell.
type Sheet struct {
	file     string
	headers  []string // by column
	devices  []*device
	byName   map[string]*device
	byOther  map[string]*device // by key and value of what tells devices apart without names
	warnings []Problem
	errors   []Problem
}

// place is a cell; column 0 is the whole row.
type place struct{ row, column int }

// device is one device of a sheet.
type device struct {
	place
	name   string
	fields map[string]field // by site file key; the name included
	apps   []application
}

type application struct {
	place
	fields map[string]field
}

// field is the value of one key: one or several texts.
type field struct {
	values []string
	at     place
}

// record is one row that is not empty.
type record struct {
	row   int
	cells []string
}

// ReadCSV reads a spreadsheet as text: separated by commas, semicolons, tabs or bars, with a header whose columns are recognised by their
// names. A device with several applications has several rows, or several columns (AE title 2, Port 2). It returns the warnings beside the
// sheet; the error is of type Errors, and says why nothing can be read. What is wrong of single cells comes with the errors of Site and Into.
func ReadCSV(file string, data []byte, e Encoding) (*Sheet, []Problem, error) {
	s := &Sheet{file: file, byName: map[string]*device{}, byOther: map[string]*device{}}
	whole := func(message string) (*Sheet, []Problem, error) {
		return nil, nil, Errors{{File: file, Message: message}}
	}
	if len(data) > MaxSize {
		return whole(fmt.Sprintf("larger than %d octets", MaxSize))
	}
	text, err := decode(data, e)
	if err != nil {
		return whole(err.Error())
	}
	if strings.TrimSpace(text) == "" {
		return whole("the file is empty")
	}
	records, at, err := s.split(text)
	if err != nil {
		return nil, nil, err
	}
	s.read(records[at], records[at+1:])
	if len(s.devices) == 0 {
		return nil, s.warnings, Errors(s.sorted(s.errors))
	}
	return s, s.sorted(s.warnings), nil
}

// split finds the separator and the header: those with which most columns are recognised.
func (s *Sheet) split(text string) (records []record, header int, err error) {
	separators := []rune{',', ';', '\t', '|'}
	if line, rest, found := strings.Cut(text, "\n"); found && strings.HasPrefix(strings.ToLower(line), "sep=") && len(strings.TrimSpace(line)) == len("sep=,") {
		separators = []rune(strings.TrimSpace(line)[len("sep="):])
		text = "\n" + rest // rows count from the first all the same
	}
	best := 0
	var failure error
	for _, separator := range separators {
		rows, err := parse(text, separator)
		for i := range min(len(rows), maxTitleRows) {
			if n := recognised(rows[i].cells); n > best {
				best, header, records, failure = n, i, rows, err
			}
		}
	}
	switch {
	case best < 2:
		return nil, 0, Errors{{File: s.file, Message: fmt.Sprintf("no header found: expected a row with at least two column names such as %s in the first %d rows",
			`"Name", "AE Title", "IP Address", "Port", "MAC"`, maxTitleRows)}}
	case failure != nil:
		p := Problem{File: s.file, Message: failure.Error()}
		if syntax, ok := errors.AsType[*csv.ParseError](failure); ok {
			p.Message = fmt.Sprintf("line %d, character %d: %v; the row begins in line %d. Is a quotation mark missing, or not doubled inside a cell?",
				syntax.Line, syntax.Column, syntax.Err, syntax.StartLine)
		}
		return nil, 0, Errors{p}
	}
	return records, header, nil
}

func recognised(cells []string) int {
	n := 0
	for _, c := range cells {
		if column, _ := columnOf(c); column != "" {
			n++
		}
	}
	return n
}

// parse reads all rows up to an error. A row's number is that of spreadsheet programs: empty lines count, a line break inside a cell does not.
func parse(text string, separator rune) ([]record, error) {
	in := csv.NewReader(bufio.NewReader(strings.NewReader(text)))
	in.Comma, in.FieldsPerRecord, in.ReuseRecord = separator, -1, false
	var records []record
	row, before := 0, int64(0)
	for {
		cells, err := in.Read()
		if errors.Is(err, io.EOF) {
			return records, nil
		}
		if err != nil {
			return records, err
		}
		after := in.InputOffset()
		for _, c := range text[before:after] {
			if c == '\n' {
				row++ // the reader has passed over an empty line
			} else if c != '\r' {
				break
			}
		}
		row++
		before = after
		if slices.ContainsFunc(cells, func(c string) bool { return strings.TrimSpace(c) != "" }) {
			records = append(records, record{row, cells})
		}
	}
}

// use is what a column is for.
type use struct {
	column string
	number int // which application, or which address
}

func (s *Sheet) read(header record, rows []record) {
	s.headers = make([]string, len(header.cells))
	uses := make([]use, len(header.cells))
	taken := map[use]int{}
	for i, h := range header.cells {
		s.headers[i] = strings.TrimSpace(h)
		at := place{header.row, i + 1}
		if i >= maxColumns {
			s.fail(at, "expected at most %d columns", maxColumns)
			return
		}
		column, number := columnOf(h)
		u := use{column, number}
		switch first, twice := taken[u]; {
		case s.headers[i] == "":
		case column == "", number > 1 && !repeats(column):
			s.warn(at, "this column is not known and is left out")
		case twice:
			s.warn(at, "column %s (%q) is the %s already; this one is left out", letters(first), s.headers[first-1], column)
		default:
			taken[u], uses[i] = i+1, u
		}
	}
	for _, r := range rows {
		s.row(r, uses)
		if len(s.errors) >= maxProblems {
			s.fail(place{r.row, 0}, "and whatever follows, which was not looked at")
			return
		}
	}
	if len(s.devices) == 0 {
		s.fail(place{header.row, 0}, "no device stands below the header")
	}
}

// repeats says whether a column may stand several times, with numbers.
func repeats(column string) bool {
	return ofApplication(column) || column == "hardware-address" || column == "address"
}

func ofApplication(column string) bool {
	return column == "tls" || slices.Index(columns, column) >= slices.Index(columns, firstOfApplication)
}

// row adds what one row says.
func (s *Sheet) row(r record, uses []use) {
	own := &device{place: place{r.row, 0}, fields: map[string]field{}}
	apps := map[int]*application{}
	for i, cell := range r.cells {
		at := place{r.row, i + 1}
		cell = unguarded(strings.TrimSpace(cell))
		switch {
		case cell == "":
			continue
		case i >= len(uses) || s.headers[i] == "":
			s.fail(at, "found %s in a column without a header", quote(cell))
			continue
		case uses[i].column == "":
			continue
		}
		u := uses[i]
		if !ofApplication(u.column) {
			s.deviceCell(own, u.column, cell, at)
			continue
		}
		a := apps[u.number]
		if a == nil {
			a = &application{place{r.row, 0}, map[string]field{}}
			apps[u.number] = a
		}
		s.applicationCell(a, u.column, cell, at)
	}
	d := s.deviceOf(own)
	if d == nil {
		return
	}
	for n := range 10 {
		if a := apps[n]; a != nil && len(a.fields) > 0 {
			d.apps = append(d.apps, *a)
		}
	}
}

// deviceOf returns the device that a row is about: a new one, or that of an earlier row, which it must not contradict.
func (s *Sheet) deviceOf(own *device) *device {
	if len(own.fields) == 0 {
		if len(s.devices) == 0 {
			s.fail(own.place, "this row names no device, and there is none above it")
			return nil
		}
		return s.devices[len(s.devices)-1] // another application of the one above
	}
	if !s.named() {
		s.nameByOthers(own)
	}
	name, ok := own.fields["name"]
	if !ok {
		s.fail(own.place, "the device's name is missing")
		return nil
	}
	own.name = name.values[0]
	d := s.byName[own.name]
	if d != nil {
		s.merge(d, own)
	} else {
		d = own
		s.byName[d.name] = d
		s.devices = append(s.devices, d)
	}
	for _, key := range distinct {
		for _, v := range own.fields[key].values {
			s.byOther[key+" "+v] = d
		}
	}
	return d
}

// distinct are the columns of which no two devices have one value.
var distinct = []string{"hardware-address", "address"}

// named says whether the sheet has a column for the device's name.
func (s *Sheet) named() bool {
	return slices.ContainsFunc(s.headers, func(h string) bool { c, _ := columnOf(h); return c == "name" })
}

// nameByOthers names a device of a sheet without names: as the one that has its hardware or IP address already, else by its host or
// station name.
func (s *Sheet) nameByOthers(own *device) {
	for _, key := range distinct {
		for _, v := range own.fields[key].values {
			if d := s.byOther[key+" "+v]; d != nil {
				own.fields["name"] = field{[]string{d.name}, own.fields[key].at}
				return
			}
		}
	}
	for _, key := range []string{"hostname", "station-name"} {
		if f, ok := own.fields[key]; ok {
			label, _, _ := strings.Cut(f.values[0], ".")
			own.fields["name"] = field{[]string{label}, f.at}
			return
		}
	}
}

// merge adds what a further row of a device says.
func (s *Sheet) merge(d, own *device) {
	for _, key := range columns {
		f, ok := own.fields[key]
		if !ok {
			continue
		}
		first, ok := d.fields[key]
		switch {
		case !ok:
			d.fields[key] = f
		case !slices.Equal(first.values, f.values):
			s.fail(f.at, "found %s, but row %d says %s of the same device %s", quote(strings.Join(f.values, " ")), first.at.row,
				quote(strings.Join(first.values, " ")), quote(d.name))
		}
	}
}

func (s *Sheet) problem(at place, format string, args []any) Problem {
	p := Problem{File: s.file, Row: at.row, Column: at.column, Message: fmt.Sprintf(format, args...)}
	if at.column > 0 && at.column <= len(s.headers) {
		p.Header = s.headers[at.column-1]
	}
	return p
}

func (s *Sheet) fail(at place, format string, args ...any) {
	s.errors = append(s.errors, s.problem(at, format, args))
}

func (s *Sheet) warn(at place, format string, args ...any) {
	if len(s.warnings) < maxProblems {
		s.warnings = append(s.warnings, s.problem(at, format, args))
	}
}

// judged returns the errors of cells together with those that package site, or a comparison, has found; nil if there are none. What is said
// of a row as a whole is left out where a cell of it could not be read: it may follow from that.
func (s *Sheet) judged(found []Problem) error {
	unread := map[int]bool{}
	for _, p := range s.errors {
		unread[p.Row] = true
	}
	all := slices.Clone(s.errors)
	for _, p := range found {
		if p.Column > 0 || !unread[p.Row] {
			all = append(all, p)
		}
	}
	if len(all) == 0 {
		return nil
	}
	return Errors(s.sorted(all))
}

func (*Sheet) sorted(ps []Problem) []Problem {
	slices.SortStableFunc(ps, func(a, b Problem) int {
		if a.Row != b.Row {
			return a.Row - b.Row
		}
		return a.Column - b.Column
	})
	return ps
}

// quote quotes a cell and bounds its length.
func quote(s string) string {
	const most = 60
	if r := []rune(s); len(r) > most {
		return fmt.Sprintf("%q...", string(r[:most]))
	}
	return fmt.Sprintf("%q", s)
}
