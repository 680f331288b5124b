// Package rollout decides when a workload that cannot reload its tokens is restarted, and when older tokens may go.
package rollout

import "time"

const (
	// Floor is the least time between two restarts of a workload, whoever of its grants asks.
	Floor = 5 * time.Minute
	// AtMost is how long a token that must be revoked waits for a restart at most.
	AtMost = 10 * time.Minute
	// poll is how often a rollout that is under way is looked at.
	poll = 5 * time.Second
	// slowPoll is how often one is that hangs: nobody waits for it any more.
	slowPoll = time.Minute
)

// Problem is why a workload is not restarted.
type Problem string

// The problems. Nobody waits for such a workload.
const (
	None       Problem = ""
	Missing    Problem = "Missing"
	NotAllowed Problem = "NotAllowed"
	// NotRolling is for one whose pods are not replaced, or not all, when its template changes: it is paused, rolls out on
	// deletion of pods, or only in part.
	NotRolling Problem = "NotRolling"
	// Forbidden is for who tries: the API server does not let it restart the workload.
	Forbidden Problem = "Forbidden"
)

// Target is a workload as it is.
type Target struct {
	Found bool
	// Allowed says that it lets the grant restart it.
	Allowed bool
	// Rolls says that its pods are replaced, all of them, when its template changes.
	Rolls   bool
	Created time.Time
	// For is the issue of the tokens that it was restarted for last, At when that was; zero: it never was.
	For, At time.Time
	// Finished says that its pods are those of its template, and available.
	Finished bool
}

// Verdict is what is to be done about a workload.
type Verdict struct {
	Restart bool
	// Done says that its pods have the tokens, or that nobody waits for it.
	Done bool
	// Next is when to look again; zero: when something changes.
	Next    time.Time
	Problem Problem
}

// Decide judges a workload whose grant has tokens that were issued at a time. First are tokens that replace none: what
// waits for those waits for its Secret.
func Decide(t Target, issued time.Time, first bool, now time.Time) Verdict {
	switch {
	case !t.Found:
		return Verdict{Done: true, Problem: Missing}
	case !t.Allowed:
		return Verdict{Done: true, Problem: NotAllowed}
	case !t.Rolls:
		return Verdict{Done: true, Problem: NotRolling}
	case first || !issued.After(t.Created) || !issued.After(t.For):
		if t.Finished || t.For.IsZero() {
			return Verdict{Done: true}
		}
		if now.After(t.At.Add(AtMost)) {
			return Verdict{Next: now.Add(slowPoll)}
		}
		return Verdict{Next: now.Add(poll)}
	case !t.At.IsZero() && now.Before(t.At.Add(Floor)):
		return Verdict{Next: t.At.Add(Floor)}
	}
	return Verdict{Restart: true, Next: now.Add(poll)}
}
