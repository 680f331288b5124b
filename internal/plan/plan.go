// Package plan decides what a grant needs next. It is pure: the same facts give the same decision, whoever asks, as
// often as they ask. It reads no clock, calls nothing and knows no Kubernetes.
package plan

import (
	"slices"
	"time"

	"github.com/mqtt-token-operator/mqtt-token-operator/internal/token"
)

const (
	// ReissueFloor is the shortest time between two issues that the spec did not ask for. It bounds what somebody who keeps
	// deleting or damaging a Secret can make the account spend.
	ReissueFloor = 10 * time.Second
	// FutureTolerance is how far in the future a token may have been issued before the local clock must have gone back; two
	// managers' clocks may differ by as much.
	FutureTolerance = 5 * time.Minute
)

// SecretState tells apart what is known about the token Secret. Only a missing one leads to new tokens.
type SecretState int

// The four states.
const (
	SecretMissing SecretState = iota
	SecretOurs
	SecretForeign
	SecretUnreadable
)

// Input is everything a decision rests on.
type Input struct {
	Now  time.Time
	Seed string // identifies the grant for ever: the source of its jitter

	Deleting  bool
	Abandon   bool // on deletion, leave the current tokens to expire
	Denied    bool // the access rules do not allow what is wanted
	Suspended bool

	Wanted      []token.Scope
	Client      string // identifies whom the tokens are for: client and instance id
	KeyID       string // the AccessKey id that clients present; empty while it is not known
	Reissue     string // the value that asks for new tokens once; empty asks for nothing
	Rendering   string // identifies how the Secret should look, tokens apart
	RenewBefore time.Duration

	Secret      SecretState
	Held        Held
	LastApplied time.Time // when this process last applied for the grant; zero: never
	NotBefore   time.Time // no attempt before this moment, after earlier ones failed; zero: none failed
}

// Held is what the Secret is known to hold.
type Held struct {
	ScopeID   string
	Client    string
	KeyID     string
	Reissue   string
	Rendering string
	Issued    time.Time
	Tokens    []HeldToken
	Retired   []Retired
	Touched   bool // somebody else wrote keys or facts that are ours
	Damaged   bool // the tokens in the payload are not the ones on record
}

// HeldToken is a token in use.
type HeldToken struct {
	Fingerprint string
	Expires     time.Time
}

// Retired is a token that a newer one replaced and that is not over yet.
type Retired struct {
	Fingerprint string
	Expires     time.Time
	RevokeAt    time.Time // zero: it is left to expire
}

// Verb is what to do.
type Verb int

// The verbs.
const (
	Keep    Verb = iota // nothing until Next
	Wait                // something is wanted but must not be done now; Next is zero where only a change helps
	Apply               // apply for every wanted scope and write the Secret
	Rewrite             // write the Secret again with the tokens it holds
	Revoke              // revoke the tokens named in Revoke
	Release             // revoke the tokens named in Revoke, then let the deleted grant go
)

// Reason says why, in the words of the rule that matched.
type Reason string

// The reasons, in the order of the rules.
const (
	ReasonUnreadable    Reason = "SecretUnreadable"
	ReasonDeleting      Reason = "Deleting"
	ReasonForeign       Reason = "SecretForeign"
	ReasonRevocationDue Reason = "RevocationDue"
	ReasonDenied        Reason = "Denied"
	ReasonSuspended     Reason = "Suspended"
	ReasonMissing       Reason = "SecretMissing"
	ReasonDamaged       Reason = "SecretDamaged"
	ReasonScopeChanged  Reason = "ScopeChanged"
	ReasonKeyRotated    Reason = "KeyRotated"
	ReasonReissue       Reason = "ReissueRequested"
	ReasonFuture        Reason = "IssuedInFuture"
	ReasonExpired       Reason = "Expired"
	ReasonDue           Reason = "RenewalDue"
	ReasonOutdated      Reason = "SecretOutdated"
	ReasonCurrent       Reason = "Current"
	ReasonBackoff       Reason = "Backoff"
)

// Decision is what to do, why, and when to ask again at the latest.
type Decision struct {
	Verb   Verb
	Reason Reason
	// Revoke lists fingerprints, sorted.
	Revoke []string
	// Next is the moment to ask again, in whole seconds; zero means only when something changes.
	Next time.Time
}

// Decide goes through the rules in order; the first that matches wins.
func Decide(in Input) Decision {
	decision := in.decide()
	decision.Next = ceil(decision.Next)
	return decision
}

func (in Input) decide() Decision {
	switch {
	case in.Secret == SecretUnreadable:
		return Decision{Verb: Wait, Reason: ReasonUnreadable}
	case in.Deleting:
		return in.release()
	case in.Secret == SecretForeign:
		return Decision{Verb: Wait, Reason: ReasonForeign}
	}
	issue := in.reasonToIssue()
	switch {
	case issue != "" && in.mayIssue() && !in.notBefore(issue).After(in.Now):
		return Decision{Verb: Apply, Reason: issue}
	case len(in.DueRevocations()) > 0: // also while issuing has to wait: an outage of one must not hold up the other
		return Decision{Verb: Revoke, Reason: ReasonRevocationDue, Revoke: in.DueRevocations()}
	case issue != "" && in.mayIssue():
		return Decision{Verb: Wait, Reason: ReasonBackoff, Next: earliest(in.notBefore(issue), in.NextRevocation())}
	case in.Denied:
		return Decision{Verb: Wait, Reason: ReasonDenied, Next: in.nextChange()}
	case in.Suspended:
		return Decision{Verb: Wait, Reason: ReasonSuspended, Next: in.nextChange()}
	case in.Held.Rendering != in.Rendering || in.Held.Touched:
		return Decision{Verb: Rewrite, Reason: ReasonOutdated}
	}
	return Decision{Verb: Keep, Reason: ReasonCurrent, Next: earliest(in.RenewAt(), in.NextRevocation())}
}

// reasonToIssue is empty while the tokens in the Secret are good.
func (in Input) reasonToIssue() Reason {
	switch {
	case in.Secret == SecretMissing:
		return ReasonMissing
	case in.Held.Damaged || len(in.Held.Tokens) == 0:
		return ReasonDamaged
	case in.Held.ScopeID != token.ScopeID(in.Wanted) || in.Held.Client != in.Client:
		return ReasonScopeChanged
	case in.KeyID != "" && in.Held.KeyID != in.KeyID:
		return ReasonKeyRotated
	case in.Reissue != "" && in.Held.Reissue != in.Reissue:
		return ReasonReissue
	case in.Held.Issued.After(in.Now.Add(FutureTolerance)):
		return ReasonFuture
	case !in.Held.Expires().After(in.Now):
		return ReasonExpired
	case !in.RenewAt().After(in.Now):
		return ReasonDue
	}
	return ""
}

func (in Input) mayIssue() bool { return !in.Denied && !in.Suspended }

// notBefore holds back what comes too soon: a retry before its time, or right after the last issue one that the spec
// did not ask for. What somebody else wrote into the Secret can look like a change of the spec, so it counts as none.
func (in Input) notBefore(reason Reason) time.Time {
	asked := reason == ReasonScopeChanged || reason == ReasonKeyRotated || reason == ReasonReissue
	if in.LastApplied.IsZero() || asked && !in.Held.Touched {
		return in.NotBefore
	}
	if floor := in.LastApplied.Add(ReissueFloor); floor.After(in.NotBefore) {
		return floor
	}
	return in.NotBefore
}

// release comes back, at the latest, when a token that cannot be revoked has ended by itself.
func (in Input) release() Decision {
	d := Decision{Verb: Release, Reason: ReasonDeleting, Revoke: in.toRelease()}
	ends := map[string]time.Time{}
	for _, t := range in.Held.Tokens {
		ends[t.Fingerprint] = t.Expires
	}
	for _, r := range in.Held.Retired {
		ends[r.Fingerprint] = r.Expires
	}
	for _, fingerprint := range d.Revoke {
		d.Next = earliest(d.Next, ceil(ends[fingerprint]))
	}
	return d
}

// toRelease lists what a deletion revokes: everything alive, less the current tokens of a grant that abandons them.
// What the access rules took away cannot be kept that way.
func (in Input) toRelease() []string {
	if in.Secret != SecretOurs {
		return nil
	}
	var list []string
	if !in.Abandon || in.Denied {
		for _, t := range in.Held.Tokens {
			if t.Expires.After(in.Now) {
				list = append(list, t.Fingerprint)
			}
		}
	}
	for _, r := range in.Held.Retired {
		if r.Expires.After(in.Now) {
			list = append(list, r.Fingerprint)
		}
	}
	slices.Sort(list)
	return list
}

// DueRevocations lists, by fingerprint, retired tokens whose overlap is over.
func (in Input) DueRevocations() []string {
	var list []string
	for _, r := range in.Held.Retired {
		if r.pending(in.Now) && !r.RevokeAt.After(in.Now) {
			list = append(list, r.Fingerprint)
		}
	}
	slices.Sort(list)
	return list
}

// NextRevocation is when the next overlap ends; zero without one.
func (in Input) NextRevocation() time.Time {
	var next time.Time
	for _, r := range in.Held.Retired {
		if r.pending(in.Now) {
			next = earliest(next, r.RevokeAt)
		}
	}
	return next
}

// nextChange is when a grant that may not be renewed changes by itself: an overlap or its tokens' life ends.
func (in Input) nextChange() time.Time {
	expires := in.Held.Expires()
	if !expires.After(in.Now) {
		expires = time.Time{}
	}
	return earliest(expires, in.NextRevocation())
}

// pending reports whether the token must still be revoked: it is alive and not left to expire.
func (r Retired) pending(now time.Time) bool {
	return !r.RevokeAt.IsZero() && r.Expires.After(now) && r.RevokeAt.Before(r.Expires)
}

// PendingRevocations counts retired tokens that are still to be revoked.
func (h Held) PendingRevocations(now time.Time) int {
	count := 0
	for _, r := range h.Retired {
		if r.pending(now) {
			count++
		}
	}
	return count
}

// Expires is when the first token ends; zero without tokens.
func (h Held) Expires() time.Time {
	var first time.Time
	for _, t := range h.Tokens {
		first = earliest(first, t.Expires)
	}
	return first
}

// earliest ignores zero times.
func earliest(a, b time.Time) time.Time {
	if a.IsZero() || (!b.IsZero() && b.Before(a)) {
		return b
	}
	return a
}

// ceil rounds up to the second: whoever asks then is never too early, and so never asks in a loop.
func ceil(t time.Time) time.Time {
	if whole := t.Truncate(time.Second); whole.Before(t) {
		return whole.Add(time.Second)
	}
	return t
}
