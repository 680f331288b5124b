package controllers

import (
	"context"
	"errors"
	"math/bits"
	"time"

	"github.com/mqtt-token-operator/mqtt-token-operator/internal/plan"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/token"
)

// Operations, as token.Error names them.
const (
	opApply  = "Apply"
	opQuery  = "Query"
	opRevoke = "Revoke"
)

const (
	// outageCalls is how many calls of one operation must get no proper answer, in a row, before the service counts as down:
	// fewer can be chance. Each of them costs a grant an attempt.
	outageCalls = 5
	// trialTime is how long an operation that failed is waited for, once the check has passed, before its fault counts as
	// gone.
	trialTime = plan.MaxBackoff
	// deafChecks is how many checks in a row nobody must have answered before our address counts as blocked.
	deafChecks = 3
	// silence is the shortest time between two checks of an address that looks blocked. The service blocks addresses that
	// call too often, and says neither for how long nor whether a call prolongs it.
	silence = 2 * time.Minute
	// throttleMemory is for how long after a refusal for too many calls a lack of answers looks like a blocked address.
	throttleMemory = time.Minute
	// recentCalls and flakyCalls say when the service counts as flaky: a fifth of the last calls got no proper answer.
	recentCalls = 50
	flakyCalls  = recentCalls / 5
	// flakyMemory is for how long it counts as flaky from then on.
	flakyMemory = time.Hour
)

// health says whether calls over a link work: a circuit breaker that the results of calls and checks move. It is a plain
// value without a clock or a lock. The zero value says that nobody knows yet.
//
// The link is out of use while there is a fault. The fault of one operation leaves the others in use until the check has
// shown more. Once the check has passed, the operation that failed is on trial: used again, and its fault told, until a
// call of it succeeds or the trial is over; one more failure takes it out of use again.
type health struct {
	checked bool
	// fault is why the link is out of use; nil: it is not.
	fault *token.Error
	// op is the operation that failed, all says that the others are out of use too.
	op  string
	all bool
	// suspect is the operation on trial; empty: none.
	suspect string
	// shown is the fault to tell of, while there is one or a trial goes on. It does not change with each check of an outage.
	shown *token.Error
	// failures counts faults since the operation that failed has last succeeded.
	failures int
	// unanswered counts checks in a row that got no answer at all.
	unanswered int
	// retryAt is when a check may be made again, or when a trial is over.
	retryAt time.Time
	lost    lostCalls
	past    past
}

// lostCalls counts calls in a row that got no proper answer, by operation.
type lostCalls struct{ apply, query, revoke int }

func (l *lostCalls) of(operation string) *int {
	switch operation {
	case opApply:
		return &l.apply
	case opRevoke:
		return &l.revoke
	}
	return &l.query
}

// afresh is the health of a link that nobody has checked yet; what the service did before is remembered.
func (h health) afresh() health { return health{past: h.past} }

func (h health) usable() bool { return h.checked && h.fault == nil }

func (h health) allows(operation string) bool {
	return h.fault == nil || !h.all && h.op != operation
}

// mayIssue reports whether tokens can be had: a key that may not revoke may still apply.
func (h health) mayIssue() bool { return h.checked && h.allows(opApply) }

// checkDue reports whether the link should be checked now.
func (h health) checkDue(now time.Time) bool { return !h.usable() && !h.retryAt.After(now) }

// note takes in the result of a call and reports whether the link's state has changed.
func (h *health) note(operation string, err error, now time.Time, seed string) (changed bool) {
	fault := (*token.Error)(nil)
	if err != nil {
		fault = token.AsError(err)
	}
	if errors.Is(err, context.Canceled) {
		return false // this process gave up on the call, which says nothing about the service
	}
	h.past.note(fault, now)
	if !h.allows(operation) {
		return false // it was under way when the link went out of use
	}
	lost := h.lost.of(operation)
	switch {
	case fault == nil:
		*lost = 0
		return h.passTrial(operation)
	case fault.Kind == token.KindInstance:
	case fault.Kind == token.KindUnavailable:
		if *lost++; *lost < outageCalls && h.suspect != operation {
			return false
		}
	default:
		*lost = 0 // an answer
		return false
	}
	h.takeOut(fault, operation, now, seed)
	return true
}

func (h *health) passTrial(operation string) bool {
	if h.suspect != operation {
		return false
	}
	h.endTrial()
	return true
}

// endTrial ends the trial, if there is one, for the better.
func (h *health) endTrial() { *h = health{checked: h.checked, lost: h.lost, past: h.past} }

// takeOut takes the link out of use because a call failed. The first time it is checked at once, to see how much of it is
// out of order; later ones wait. So does a first one that looks as if our address were blocked.
func (h *health) takeOut(fault *token.Error, operation string, now time.Time, seed string) {
	h.all, h.op = h.fault != nil, operation
	h.fail(fault, now)
	wait := time.Duration(0)
	if h.failures > 1 {
		wait = plan.Backoff(h.failures-1, seed)
	}
	h.waitUntilCheck(wait, now)
}

// checkFailed takes in a check that did not pass.
func (h *health) checkFailed(fault *token.Error, now time.Time, seed string) {
	h.checked, h.all, h.op = true, true, opQuery
	if isAnswered(fault) {
		h.unanswered = 0
	} else {
		h.unanswered++
	}
	h.fail(fault, now)
	h.waitUntilCheck(plan.Backoff(h.failures, seed), now)
}

// checkPassed takes in a check that passed, and reports whether that is the end of an outage: the service, or the way to
// it, was down.
func (h *health) checkPassed(now time.Time) (recovered bool) {
	before := *h
	recovered = before.fault != nil && before.op == opQuery && isOutage(before.fault)
	*h = health{checked: true, past: before.past}
	if before.fault == nil {
		return false
	}
	h.past.out = now
	if before.op != opQuery { // the check says nothing about that operation
		h.suspect, h.shown, h.failures, h.retryAt = before.op, before.shown, before.failures, now.Add(trialTime)
	}
	return recovered
}

func (h *health) fail(fault *token.Error, now time.Time) {
	if h.shown == nil || !isOutage(h.shown) || fault.Kind == token.KindInstance {
		h.shown = fault
	}
	h.fault, h.suspect, h.lost = fault, "", lostCalls{}
	h.failures++
	h.past.out = now
}

func (h *health) waitUntilCheck(wait time.Duration, now time.Time) {
	throttled := !h.past.throttled.IsZero() && now.Sub(h.past.throttled) < throttleMemory
	if !isAnswered(h.fault) && (throttled || h.unanswered >= deafChecks) {
		wait = max(wait, silence)
	}
	h.retryAt = now.Add(max(wait, h.fault.RetryAfter))
}

// isAnswered reports whether the service itself said so.
func isAnswered(fault *token.Error) bool { return fault.RequestID != "" }

// isOutage tells faults of the service and of the way to it from its refusals.
func isOutage(fault *token.Error) bool {
	return fault.Kind == token.KindUnavailable || fault.Kind == token.KindThrottled ||
		fault.Kind == token.KindInstance && !isAnswered(fault)
}

// isFlaky reports whether the service has failed so much of late that it is better to be early.
func (h health) isFlaky(now time.Time) bool {
	recent := func(t time.Time) bool { return !t.IsZero() && now.Sub(t) < flakyMemory }
	return h.fault != nil || recent(h.past.out) || recent(h.past.poor)
}

// past is what is remembered of a service although it works again, over another link too.
type past struct {
	// calls has a bit for each of the last calls, the newest is the lowest; set: no proper answer came.
	calls uint64
	// poor is when a call was last lost of which, with those before, a fifth were. out is when the link was last out of use,
	// throttled when a call was last refused for too many calls.
	poor, out, throttled time.Time
}

func (p *past) note(fault *token.Error, now time.Time) {
	p.calls = p.calls << 1 & (1<<recentCalls - 1)
	if fault == nil {
		return
	}
	if fault.Kind == token.KindThrottled {
		p.throttled = now
	}
	if fault.Kind != token.KindUnavailable {
		return
	}
	p.calls |= 1
	if bits.OnesCount64(p.calls) >= flakyCalls {
		p.poor = now
	}
}
