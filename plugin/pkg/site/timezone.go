package site

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"iter"
	"slices"
	"strings"
	"time"
	_ "time/tzdata" // hosts without system zone files know the zones all the same

	"go.yaml.in/yaml/v3"

	"github.com/dicomnam/dicomnam/plugin/pkg/dhcpopt"
	"github.com/dicomnam/dicomnam/plugin/pkg/site/internal/strictyaml"
)

// timeZone reads the name of a time zone.
func (p *parser) timeZone(n *yaml.Node, o *Options) {
	const expected = "the name of a time zone such as Europe/Berlin"
	v, ok := p.Scalar(n, keyTimeZone, expected)
	if !ok {
		return
	}
	// "Local" would be the server's own zone, and a name must fit into option 101.
	loc, err := time.LoadLocation(v)
	if err != nil || v == "Local" || len(v) > 255 {
		p.Errorf(n, "%s: found %s, which the time zone database does not have; expected %s", keyTimeZone, strictyaml.Quote(v), expected)
		return
	}
	o.TimeZone = loc
	o.posix = posixTZ(loc)
}

// encoded is an option and its value; nil for the time offset of TimeZone, which changes.
type encoded struct {
	code  dhcpopt.Code
	value []byte
}

// All returns, in the order of their codes, Values, and what TimeZone gives at t where Values does not say it: the offset from UTC in seconds
// (2), the zone as POSIX writes it (100) and its name (101, both RFC 4833). The offset is right at t and changes with daylight saving time,
// so a server asks for every answer. 100 is missing for the few zones that POSIX cannot express.
func (o *Options) All(t time.Time) iter.Seq2[dhcpopt.Code, []byte] {
	all := o.encoded
	if all == nil {
		all = o.encode()
	}
	return func(yield func(dhcpopt.Code, []byte) bool) {
		for _, e := range all {
			if e.value == nil {
				_, offset := t.In(o.TimeZone).Zone()
				e.value = binary.BigEndian.AppendUint32(nil, uint32(int32(offset)))
			}
			if !yield(e.code, e.value) {
				return
			}
		}
	}
}

func (o *Options) encode() []encoded {
	all := make([]encoded, 0, len(o.Values)+len(codesOfTime))
	for code, value := range o.Values {
		if value == nil {
			value = []byte{}
		}
		all = append(all, encoded{code, value})
	}
	if o.TimeZone != nil {
		give := func(code dhcpopt.Code, value []byte) {
			if _, ok := o.Values[code]; !ok {
				all = append(all, encoded{code, value})
			}
		}
		give(codeTimeOffset, nil)
		posix := o.posix
		if posix == "" {
			posix = posixTZ(o.TimeZone)
		}
		if posix != "" {
			give(codePCode, []byte(posix))
		}
		give(codeTCode, []byte(o.TimeZone.String()))
	}
	slices.SortFunc(all, func(a, b encoded) int { return cmp.Compare(a.code, b.code) })
	return all
}

// The rules of a zone are read off years that no table of the tz database reaches, where only the rule at its end is left. A leap year
// may begin on any day of the week, so 28 years show every form a year can have.
const (
	firstRuleYear = 2400
	ruleYears     = 28
)

// posixTZ returns the rule that the tz database has for loc's future, in the form of POSIX's variable TZ, such as
// CET-1CEST,M3.5.0,M10.5.0/3; or "" where POSIX has no form for it.
func posixTZ(loc *time.Location) string {
	const step = 7 * 24 * time.Hour // no rule changes the clock twice in a week
	t := time.Date(firstRuleYear, time.January, 1, 0, 0, 0, 0, time.UTC)
	end := t.AddDate(ruleYears, 0, 0)
	var standard, daylight zone
	var toStandard, toDaylight []time.Time // as the clock on the wall shows them before it changes
	last := zoneAt(loc, t)
	for t = t.Add(step); ; t = t.Add(step) {
		if last.daylight {
			daylight = last
		} else {
			standard = last
		}
		if t.After(end) {
			break
		}
		next := zoneAt(loc, t)
		if next == last {
			continue
		}
		wall := changeBetween(loc, t.Add(-step), t).Add(time.Duration(last.offset) * time.Second)
		if next.daylight {
			toDaylight = append(toDaylight, wall)
		} else {
			toStandard = append(toStandard, wall)
		}
		last = next
	}
	text := posixName(standard.name) + posixTime(-standard.offset)
	if daylight.name == "" {
		return text
	}
	start, stop := posixRule(toDaylight), posixRule(toStandard)
	if standard.name == "" || start == "" || stop == "" {
		return ""
	}
	text += posixName(daylight.name)
	if daylight.offset != standard.offset+3600 {
		text += posixTime(-daylight.offset)
	}
	return text + "," + start + "," + stop
}

// zone is what a clock shows: abbreviation, offset from UTC in seconds, and whether that is daylight saving time.
type zone struct {
	name     string
	offset   int
	daylight bool
}

func zoneAt(loc *time.Location, t time.Time) zone {
	t = t.In(loc)
	name, offset := t.Zone()
	return zone{name, offset, t.IsDST()}
}

// changeBetween returns the second, after a and not after b, from which the zone is as it is at b.
func changeBetween(loc *time.Location, a, b time.Time) time.Time {
	target := zoneAt(loc, b)
	for b.Sub(a) > time.Second {
		middle := a.Add(b.Sub(a) / 2).Truncate(time.Second)
		if zoneAt(loc, middle) == target {
			b = middle
		} else {
			a = middle
		}
	}
	return b
}

// posixRule returns the rule Mm.w.d/time that all the changes follow, one of each year, or "". The rule's day may lie before or after that
// of the change, with hours that lead from one to the other: "the day after the fourth Thursday" has no other form.
func posixRule(changes []time.Time) string {
	if len(changes) != ruleYears {
		return ""
	}
	for _, shift := range []int{0, 1, -1, 2, -2, 3, -3, 4, -4, 5, -5, 6, -6} {
		if rule := posixRuleOn(changes, shift); rule != "" {
			return rule
		}
	}
	return ""
}

// posixRuleOn is posixRule for changes that come shift days after the rule's day.
func posixRuleOn(changes []time.Time, shift int) string {
	first := changes[0].AddDate(0, 0, -shift)
	clock := secondOfDay(changes[0])
	week := (first.Day()-1)/7 + 1
	sameWeek, allLast := true, true
	for _, change := range changes {
		day := change.AddDate(0, 0, -shift)
		if day.Month() != first.Month() || day.Weekday() != first.Weekday() || secondOfDay(change) != clock {
			return ""
		}
		sameWeek = sameWeek && (day.Day()-1)/7+1 == week
		allLast = allLast && day.AddDate(0, 0, 7).Month() != day.Month()
	}
	switch {
	case allLast:
		week = 5
	case !sameWeek:
		return ""
	}
	rule := fmt.Sprintf("M%d.%d.%d", first.Month(), week, first.Weekday())
	if at := clock + shift*24*3600; at != 2*3600 {
		rule += "/" + posixTime(at)
	}
	return rule
}

func secondOfDay(t time.Time) int { return t.Hour()*3600 + t.Minute()*60 + t.Second() }

// posixName returns the abbreviation of a zone, in angle brackets unless it is of letters only.
func posixName(name string) string {
	if strings.ContainsFunc(name, func(r rune) bool { return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') }) {
		return "<" + name + ">"
	}
	return name
}

// posixTime returns seconds as h, h:mm or h:mm:ss.
func posixTime(seconds int) string {
	sign := ""
	if seconds < 0 {
		sign, seconds = "-", -seconds
	}
	text := sign + itoa(seconds/3600)
	if seconds%3600 != 0 {
		text += fmt.Sprintf(":%02d", seconds/60%60)
	}
	if seconds%60 != 0 {
		text += fmt.Sprintf(":%02d", seconds%60)
	}
	return text
}
