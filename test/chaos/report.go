package main

import (
	"errors"
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
	onRecord    invariant = "a live token is in a Secret, in the ledger, or an orphan"
	access      invariant = "a client with a valid grant has tokens that work"
	connected   invariant = "an MQTT client stays connected, or reconnects"
	narrowed    invariant = "what exceeds the grant is dead after the overlap"
	deleted     invariant = "a token of a deleted grant is dead or in the ledger"
	revokedOnce invariant = "a token is revoked once, if no leader ends meanwhile"
	budgeted    invariant = "no second has more calls than the quota"
	whole       invariant = "no reader sees half a Secret"
	repaired    invariant = "a damaged Secret is whole again within 30 s"
	inTime      invariant = "a deletion ends by its deadline"
	nothing     invariant = "nothing is left at the end"
	discreet    invariant = "no token or key in logs, events or statuses"
)

func invariants() []invariant {
	return []invariant{onRecord, access, connected, narrowed, deleted, revokedOnce, budgeted, whole, repaired, inTime, nothing, discreet}
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
	t.tell("%7.1fs  %s\n", time.Since(t.began).Seconds(), fmt.Sprintf(format, arguments...))
}

// tell prints a text.
func (t *tally) tell(format string, arguments ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	_, _ = fmt.Fprintf(t.out, format, arguments...) //nolint:errcheck // there is nowhere else to say that
}

// table renders the result and returns how many violations there were.
func (t *tally) table(figures [][2]string) (string, int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	rows, total := []string{"Invariant\tChecked\tViolations"}, 0
	for _, i := range invariants() {
		total += len(t.violations[i])
		rows = append(rows, fmt.Sprintf("%s\t%d\t%d", i, t.checks[i], len(t.violations[i])))
	}
	rows = append(rows, "\t\t")
	for _, figure := range figures {
		rows = append(rows, figure[0]+"\t"+figure[1]+"\t")
	}
	var text strings.Builder
	table := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	_, err := io.WriteString(table, strings.Join(rows, "\n")+"\n")
	if err = errors.Join(err, table.Flush()); err != nil {
		return err.Error(), total
	}
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
