package budget_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/mqtt-token-operator/mqtt-token-operator/internal/budget"
)

func TestTake(t *testing.T) {
	now := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	b := budget.New(map[budget.Operation]int32{budget.Revoke: 4, budget.Apply: 50})
	for _, step := range []struct {
		sentence  string
		operation budget.Operation
		id        string
		n         int
		at, want  time.Duration
	}{
		{"the first call goes at once", budget.Revoke, "a", 1, 0, 0},
		{"the second waits a quarter of a second", budget.Revoke, "b", 1, 0, 250 * time.Millisecond},
		{"the third queues behind it", budget.Revoke, "c", 2, 0, 500 * time.Millisecond},
		{"who asks again keeps the place", budget.Revoke, "b", 1, 100 * time.Millisecond, 150 * time.Millisecond},
		{"and goes when its time has come", budget.Revoke, "b", 1, 250 * time.Millisecond, 0},
		{"two calls take two places", budget.Revoke, "d", 1, 250 * time.Millisecond, 750 * time.Millisecond},
		{"other operations do not wait", budget.Apply, "d", 1, 250 * time.Millisecond, 0},
		{"an operation without a quota never waits", budget.Query, "d", 1, 0, 0},
		{"a call after an idle time goes at once", budget.Revoke, "e", 1, time.Hour, 0},
		{"who never came back has lost its place", budget.Revoke, "d", 1, time.Hour, 250 * time.Millisecond},
	} {
		for range 2 { // asking again changes nothing
			if got := b.Take(step.operation, step.id, step.n, now.Add(step.at)); got != step.want {
				t.Errorf("%s: got %v, want %v", step.sentence, got, step.want)
			}
		}
		if step.want == 0 {
			b.Done(step.operation, step.id)
		}
	}
}

// TestNeverOverQuota lets many callers come back exactly when told and counts what goes out in any one second.
func TestNeverOverQuota(t *testing.T) {
	start := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	b := budget.New(map[budget.Operation]int32{budget.Revoke: 4})
	due := map[string]time.Time{}
	for i := range 100 {
		due[fmt.Sprint(i)] = start
	}
	perSecond := map[int64]int{}
	for now := start; len(due) > 0; now = now.Add(10 * time.Millisecond) {
		for id, at := range due {
			if at.After(now) {
				continue
			}
			if wait := b.Take(budget.Revoke, id, 1, now); wait > 0 {
				due[id] = now.Add(wait)
				continue
			}
			b.Done(budget.Revoke, id)
			delete(due, id)
			perSecond[now.Unix()]++
		}
		if now.Sub(start) > time.Minute {
			t.Fatalf("%d callers starve", len(due))
		}
	}
	for second, calls := range perSecond {
		if calls > 4 {
			t.Errorf("second %d saw %d calls", second, calls)
		}
	}
}
