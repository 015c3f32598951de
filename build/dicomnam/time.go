package main

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/dicomnam/dicomnam/coredhcp-plugins/pkg/control"
)

func timeCommand() *cobra.Command {
	var s server
	cmd := &cobra.Command{
		Use:   "time",
		Short: "Show what a running coredhcp holds of its time servers",
		Long: `Show what a running coredhcp holds of its time servers, in the order of the site
file: whether each is good, and so given to clients, and why not; what it has said of
itself; and how far it is ahead of the median of its peers. Servers are asked where ntp
stands with verify=true in the configuration of coredhcp; else they are unknown.
A reason has "_" for each blank.
` + aboutOutput,
		Example: "  dicomnam time\n" +
			"  dicomnam time --json | jq -r 'select(.verdict == \"bad\") | .server + \": \" + .reason'",
		Args: noArg,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return ask(cmd, &s, control.Time, nil, newTimeTable)
		},
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	s.flags(cmd)
	return cmd
}

type timeTable struct{ *table }

func newTimeTable(w io.Writer) printer[control.TimeServer] {
	return timeTable{newTable(w, column{"SERVER", 0}, column{"ADDRESS", 0}, column{"VERDICT", 0}, column{"STRATUM", 0}, column{"DISTANCE", 0},
		column{"DEVIATION", 0}, column{"ANSWERED", 0}, column{"REASON", 0})}
}

func (t timeTable) item(s control.TimeServer) error {
	stratum, distance, deviation, answered, address := "", "", "", "never", ""
	if s.Answered != nil {
		stratum, distance, deviation = strconv.Itoa(int(s.Stratum)), seconds(s.RootDistance), fmt.Sprintf("%+.3fs", s.Deviation)
		answered = moment(*s.Answered)
	}
	if s.Address.IsValid() {
		address = s.Address.String()
	}
	return t.row(s.Server, address, s.Verdict, stratum, distance, deviation, answered, strings.ReplaceAll(s.Reason, " ", "_"))
}

func (t timeTable) end() error { return t.flush() }

func seconds(s float64) string {
	return time.Duration(s * float64(time.Second)).Round(time.Millisecond).String()
}
