package controllers

import (
	"context"
	"testing"
	"time"

	"github.com/mqtt-token-operator/mqtt-token-operator/internal/token"
)

// step is one thing that happens to a link.
type step func(h *health, now time.Time)

func TestTheBreaker(t *testing.T) {
	const seed = "uid"
	down := &token.Error{Kind: token.KindUnavailable, Op: "Apply", Code: "InternalError", RequestID: "r"}
	deaf := &token.Error{Kind: token.KindInstance, Op: "Query", Code: "Unreachable"}
	refused := &token.Error{Kind: token.KindInstance, Op: "Apply", Code: "NoPermission", RequestID: "r"}
	throttled := &token.Error{Kind: token.KindThrottled, Op: "Apply", Code: "Throttling", RequestID: "r"}
	call := func(operation string, err error) step {
		return func(h *health, now time.Time) { h.note(operation, err, now, seed) }
	}
	times := func(n int, s step) step {
		return func(h *health, now time.Time) {
			for range n {
				s(h, now)
			}
		}
	}
	checkPasses := func(h *health, now time.Time) { h.checkPassed(now) }
	checkFails := func(fault *token.Error) step {
		return func(h *health, now time.Time) { h.checkFailed(fault, now, seed) }
	}
	for sentence, tc := range map[string]struct {
		steps              []step
		wantIssue          bool
		wantRevoke         bool
		wantCheckIn        time.Duration // from then on at the earliest; -1: none is due
		wantTold, wantPoor bool
	}{
		"a link that passed its check is in use":           {steps: nil, wantIssue: true, wantRevoke: true, wantCheckIn: -1},
		"four lost calls are chance":                       {steps: []step{times(4, call(opApply, down))}, wantIssue: true, wantRevoke: true, wantCheckIn: -1},
		"five in a row are an outage, checked at once":     {steps: []step{times(5, call(opApply, down))}, wantIssue: false, wantRevoke: true, wantCheckIn: 0, wantTold: true, wantPoor: true},
		"a success between them starts the count anew":     {steps: []step{times(4, call(opApply, down)), call(opApply, nil), times(4, call(opApply, down))}, wantIssue: true, wantRevoke: true, wantCheckIn: -1},
		"so does a refusal, which is an answer":            {steps: []step{times(4, call(opApply, down)), call(opApply, throttled), times(4, call(opApply, down))}, wantIssue: true, wantRevoke: true, wantCheckIn: -1},
		"a success of another operation does not":          {steps: []step{times(4, call(opApply, down)), call(opRevoke, nil), call(opApply, down)}, wantIssue: false, wantRevoke: true, wantCheckIn: 0, wantTold: true, wantPoor: true},
		"throttling is no outage":                          {steps: []step{times(50, call(opApply, throttled))}, wantIssue: true, wantRevoke: true, wantCheckIn: -1},
		"a call that we gave up on says nothing":           {steps: []step{times(50, call(opApply, &token.Error{Kind: token.KindUnavailable, Code: "Canceled", Err: context.Canceled}))}, wantIssue: true, wantRevoke: true, wantCheckIn: -1},
		"a refused key is out of use at once":              {steps: []step{call(opApply, refused)}, wantIssue: false, wantRevoke: true, wantCheckIn: 0, wantTold: true, wantPoor: true},
		"a failed check takes everything out":              {steps: []step{times(5, call(opApply, down)), checkFails(down)}, wantIssue: false, wantRevoke: false, wantCheckIn: 3 * time.Second, wantTold: true, wantPoor: true},
		"a check that passes puts it on trial":             {steps: []step{times(5, call(opApply, down)), checkPasses}, wantIssue: true, wantRevoke: true, wantCheckIn: -1, wantTold: true, wantPoor: true},
		"one more failure on trial takes it out, to wait":  {steps: []step{times(5, call(opApply, down)), checkPasses, call(opApply, down)}, wantIssue: false, wantRevoke: true, wantCheckIn: 3 * time.Second, wantTold: true, wantPoor: true},
		"a success ends the trial":                         {steps: []step{times(5, call(opApply, down)), checkPasses, call(opApply, nil)}, wantIssue: true, wantRevoke: true, wantCheckIn: -1, wantPoor: true},
		"an address that nobody answers gets silence":      {steps: []step{checkFails(deaf), checkFails(deaf), checkFails(deaf)}, wantIssue: false, wantRevoke: false, wantCheckIn: silence, wantTold: true, wantPoor: true},
		"at once, if we were called too many before":       {steps: []step{call(opApply, throttled), checkFails(deaf)}, wantIssue: false, wantRevoke: false, wantCheckIn: silence, wantTold: true, wantPoor: true},
		"a fifth of the calls lost is flaky, and no fault": {steps: []step{times(10, func(h *health, now time.Time) { call(opApply, nil)(h, now); call(opApply, down)(h, now) })}, wantIssue: true, wantRevoke: true, wantCheckIn: -1, wantPoor: true},
	} {
		t.Run(sentence, func(t *testing.T) {
			now := time.Date(2031, 5, 17, 3, 4, 5, 0, time.UTC)
			h := health{}
			h.checkPassed(now)
			for _, s := range tc.steps {
				s(&h, now)
			}
			if h.mayIssue() != tc.wantIssue || h.allows(opRevoke) != tc.wantRevoke {
				t.Errorf("may issue: %v, want %v; may revoke: %v, want %v", h.mayIssue(), tc.wantIssue, h.allows(opRevoke), tc.wantRevoke)
			}
			if told := h.shown != nil; told != tc.wantTold {
				t.Errorf("told: %v, want %v", told, tc.wantTold)
			}
			if poor := h.isFlaky(now); poor != tc.wantPoor {
				t.Errorf("flaky: %v, want %v", poor, tc.wantPoor)
			}
			if h.isFlaky(now.Add(flakyMemory)) && h.fault == nil {
				t.Error("flaky for ever")
			}
			switch {
			case tc.wantCheckIn < 0:
				if h.checkDue(now.Add(time.Hour)) {
					t.Error("a check is due")
				}
			case !h.checkDue(now.Add(11 * time.Minute)):
				t.Error("no check will ever be due")
			case tc.wantCheckIn > 0 && h.checkDue(now.Add(tc.wantCheckIn-time.Second)):
				t.Errorf("a check is due before %s", tc.wantCheckIn)
			case tc.wantCheckIn == 0 && !h.checkDue(now):
				t.Error("no check is due at once")
			}
		})
	}
}
