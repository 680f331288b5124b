package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"text/tabwriter"
	"time"
)

// invariant names a promise.
type invariant string

// The promises.
const (
	onRecord  invariant = "a live token is in a Secret, in the ledger, or an orphan"
	access    invariant = "a client with a valid grant has tokens that work"
	connected invariant = "an MQTT client stays connected, or reconnects"
	narrowed  invariant = "what exceeds the grant is dead after the overlap"
	deleted   invariant = "a token of a deleted grant is dead or in the ledger"
	budgeted  invariant = "no second has more calls than the quota"
	whole     invariant = "no reader sees half a Secret"
	repaired  invariant = "a damaged Secret is whole again within 30 s"
	inTime    invariant = "a deletion ends by its deadline"
	nothing   invariant = "nothing is left at the end"
	discreet  invariant = "no token or key in logs, events or statuses"
)

func invariants() []invariant {
	return []invariant{onRecord, access, connected, narrowed, deleted, budgeted, whole, repaired, inTime, nothing, discreet}
}

// tally counts checks and violations. It is safe for concurrent use.
type tally struct {
	mu         sync.Mutex
	checks     map[invariant]int
	violations map[invariant][]string
	told       map[string]bool
	out        io.Writer
	began      time.Time
}

func newTally(out io.Writer) *tally {
	return &tally{checks: map[invariant]int{}, violations: map[invariant][]string{}, told: map[string]bool{}, out: out, began: time.Now()}
}

func (t *tally) checked(i invariant, times int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.checks[i] += times
}

// violated notes a violation and tells it at once.
func (t *tally) violated(i invariant, format string, arguments ...any) {
	text := fmt.Sprintf(format, arguments...)
	t.mu.Lock()
	t.violations[i] = append(t.violations[i], text)
	t.mu.Unlock()
	t.say("VIOLATION of %q: %s", i, text)
}

// say prints a line with the time since the start.
func (t *tally) say(format string, arguments ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	_, _ = fmt.Fprintf(t.out, "%7.1fs  %s\n", time.Since(t.began).Seconds(), fmt.Sprintf(format, arguments...))
}

// table renders the result and returns how many violations there were.
func (t *tally) table(figures [][2]string) (string, int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	var text strings.Builder
	total := 0
	table := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(table, "Invariant\tChecked\tViolations")
	for _, i := range invariants() {
		total += len(t.violations[i])
		_, _ = fmt.Fprintf(table, "%s\t%d\t%d\n", i, t.checks[i], len(t.violations[i]))
	}
	_, _ = fmt.Fprintln(table, "\t\t")
	for _, figure := range figures {
		_, _ = fmt.Fprintf(table, "%s\t%s\t\n", figure[0], figure[1])
	}
	_ = table.Flush() //nolint:errcheck // a Builder takes everything
	return text.String(), total
}

// all lists the violations.
func (t *tally) all() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var lines []string
	for _, i := range invariants() {
		for _, v := range t.violations[i] {
			lines = append(lines, fmt.Sprintf("%s: %s", i, v))
		}
	}
	return slices.Clip(lines)
}

// violatedOnce notes a violation that would be told again and again.
func (t *tally) violatedOnce(i invariant, about, format string, arguments ...any) {
	t.mu.Lock()
	told := t.told[about]
	t.told[about] = true
	t.mu.Unlock()
	if !told {
		t.violated(i, format, arguments...)
	}
}
