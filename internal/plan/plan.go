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

// The five states.
const (
	SecretMissing SecretState = iota
	SecretOurs
	// SecretInherited is another grant's, which this one is to take over with the tokens in it.
	SecretInherited
	SecretForeign
	SecretUnreadable
)

// Input is everything a decision rests on.
type Input struct {
	// Now is the moment by the service's clock.
	Now  time.Time
	Seed string // identifies the grant for ever: the source of its jitter

	Deleting bool
	Overdue  bool // the deletion has waited for the service as long as it may
	Abandon  bool // on deletion, leave the current tokens to expire
	OnHold   bool // the client is to be cut off
	Denied   bool // the access rules do not allow what is wanted
	// Withdrawable says that the denial may take away what the Secret holds.
	Withdrawable bool
	Suspended    bool

	Wanted      []token.Scope
	Client      string // identifies whom the tokens are for: client and instance id
	KeyID       string // the AccessKey id that clients present; empty while it is not known
	Compromised string // an AccessKey id whose tokens must not outlive their replacement; empty for none
	Reissue     string // the value that asks for new tokens once; empty asks for nothing
	Rendering   string // identifies how the Secret should look, tokens apart
	RenewBefore time.Duration
	Overlap     time.Duration // how long a token that must be revoked stays usable
	Flaky       bool          // the service failed of late: renew earlier
	VerifyAt    time.Time     // when to ask the service about the tokens; zero: never

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
	Going     bool // somebody deleted the Secret; it is there until its tokens are known elsewhere
	Invalid   bool // the service called one of the tokens invalid
}

// HeldToken is a token in use.
type HeldToken struct {
	Fingerprint string
	Expires     time.Time
}

// Retired is a token that a newer one replaced and that is not over yet.
type Retired struct {
	Fingerprint string
	KeyID       string
	Expires     time.Time
	RevokeAt    time.Time // written by an older manager, which revoked from the Secret; zero: it is left to expire
}

// Verb is what to do.
type Verb int

// The verbs.
const (
	Keep     Verb = iota // nothing until Next
	Wait                 // something is wanted but must not be done now; Next is zero where only a change helps
	Apply                // apply for every wanted scope and write the Secret
	Rewrite              // write the Secret again with the tokens it holds
	Verify               // ask the service whether the tokens are valid
	Adopt                // make the other grant's Secret this one's
	Withdraw             // have every token revoked and take the current ones out of the Secret
	Release              // revoke the tokens named in Revoke, then let the deleted grant go
	HandOver             // leave the tokens named in Revoke to the ledger, then let the deleted grant go
)

// Reason says why, in the words of the rule that matched.
type Reason string

// The reasons, in the order of the rules.
const (
	ReasonUnreadable   Reason = "SecretUnreadable"
	ReasonDeleting     Reason = "Deleting"
	ReasonForeign      Reason = "SecretForeign"
	ReasonInherited    Reason = "SecretInherited"
	ReasonHeld         Reason = "Held"
	ReasonDenied       Reason = "Denied"
	ReasonSuspended    Reason = "Suspended"
	ReasonMissing      Reason = "SecretMissing"
	ReasonDamaged      Reason = "SecretDamaged"
	ReasonScopeChanged Reason = "ScopeChanged"
	ReasonKeyRotated   Reason = "KeyRotated"
	ReasonReissue      Reason = "ReissueRequested"
	ReasonInvalid      Reason = "TokenInvalid"
	ReasonFuture       Reason = "IssuedInFuture"
	ReasonExpired      Reason = "Expired"
	ReasonDue          Reason = "RenewalDue"
	ReasonOutdated     Reason = "SecretOutdated"
	ReasonVerify       Reason = "VerificationDue"
	ReasonCurrent      Reason = "Current"
	ReasonBackoff      Reason = "Backoff"
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
	case in.Secret == SecretUnreadable && (!in.Deleting || !in.Overdue): // then the Secret's finalizer keeps what it holds
		return Decision{Verb: Wait, Reason: ReasonUnreadable}
	case in.Deleting:
		return in.release()
	case in.Secret == SecretForeign:
		return Decision{Verb: Wait, Reason: ReasonForeign}
	case in.Secret == SecretInherited:
		return Decision{Verb: Adopt, Reason: ReasonInherited}
	case in.OnHold:
		return in.withoutIssuing(ReasonHeld, true)
	case in.Denied:
		return in.withoutIssuing(ReasonDenied, in.Withdrawable)
	case in.Suspended:
		return in.withoutIssuing(ReasonSuspended, false)
	}
	issue := in.reasonToIssue()
	switch {
	case issue != "" && !in.notBefore(issue).After(in.Now):
		return Decision{Verb: Apply, Reason: issue}
	case issue != "":
		return in.meanwhile(Decision{Verb: Wait, Reason: ReasonBackoff, Next: in.notBefore(issue)})
	case in.Held.Rendering != in.Rendering || in.Held.Touched || in.mustNotStay():
		return Decision{Verb: Rewrite, Reason: ReasonOutdated}
	case !in.VerifyAt.IsZero() && !in.VerifyAt.After(in.Now):
		return Decision{Verb: Verify, Reason: ReasonVerify}
	}
	return Decision{Verb: Keep, Reason: ReasonCurrent, Next: earliest(in.RenewAt(), in.VerifyAt)}
}

// withoutIssuing is for a grant that must not have new tokens: those it has go if they must, or if somebody deletes the
// Secret, which nothing would replace.
func (in Input) withoutIssuing(reason Reason, withdraw bool) Decision {
	if in.Secret == SecretOurs && (in.Held.Going || withdraw && in.Held.mayHoldTokens(in.Now)) {
		return Decision{Verb: Withdraw, Reason: reason}
	}
	next := in.Held.Expires()
	if !next.After(in.Now) {
		next = time.Time{}
	}
	return in.meanwhile(Decision{Verb: Wait, Reason: reason, Next: next})
}

// meanwhile does not let a retired token that must go wait for what the grant waits for. The Secret written again says
// that its tokens are for the client and the key of today; where they are not, only new tokens help.
func (in Input) meanwhile(wait Decision) Decision {
	asRecorded := in.Secret == SecretOurs && !in.Held.Going && !in.Held.Damaged &&
		in.Held.Client == in.Client && in.Held.KeyID == in.KeyID
	if asRecorded && in.mustNotStay() {
		return Decision{Verb: Rewrite, Reason: wait.Reason}
	}
	return wait
}

// reasonToIssue is empty while the tokens in the Secret are good.
func (in Input) reasonToIssue() Reason {
	switch {
	case in.Secret == SecretMissing || in.Held.Going:
		return ReasonMissing
	case in.Held.Damaged:
		return ReasonDamaged
	case len(in.Held.Tokens) == 0: // they were taken out, and may be there again
		return ReasonMissing
	case in.Held.ScopeID != token.ScopeID(in.Wanted) || in.Held.Client != in.Client:
		return ReasonScopeChanged
	case in.KeyID != "" && in.Held.KeyID != in.KeyID:
		return ReasonKeyRotated
	case in.Reissue != "" && in.Held.Reissue != in.Reissue:
		return ReasonReissue
	case in.Held.Invalid:
		return ReasonInvalid
	case in.Held.Issued.After(in.Now.Add(FutureTolerance)):
		return ReasonFuture
	case !in.Held.Expires().After(in.Now):
		return ReasonExpired
	case !in.RenewAt().After(in.Now):
		return ReasonDue
	}
	return ""
}

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

// mustNotStay reports whether a retired token must be revoked and is in no ledger yet. It asks what the rewriting will
// ask: a token that one of the two would let end by itself would have the Secret written again and again.
func (in Input) mustNotStay() bool {
	change := Change{Now: in.Now, Overlap: in.Overlap, Compromised: in.Compromised}
	return slices.ContainsFunc(in.Held.Retired, func(r Retired) bool {
		fate := change.Of(Generation{KeyID: r.KeyID, Expires: r.Expires, RevokeAt: r.RevokeAt})
		return r.Expires.After(in.Now) && !fate.RevokeAt.IsZero()
	})
}

// release comes back, at the latest, when a token that cannot be revoked has ended by itself.
func (in Input) release() Decision {
	d := Decision{Verb: Release, Reason: ReasonDeleting}
	for _, t := range in.toRelease() {
		d.Revoke, d.Next = append(d.Revoke, t.Fingerprint), earliest(d.Next, t.Expires)
	}
	slices.Sort(d.Revoke)
	d.Revoke = slices.Compact(d.Revoke) // only forged facts name a token twice
	if in.Overdue && len(d.Revoke) > 0 {
		d.Verb = HandOver
	}
	return d
}

// toRelease lists what a deletion revokes: everything alive, less the current tokens of a grant that abandons them.
// What the access rules took away, or a hold, cannot be kept that way.
func (in Input) toRelease() []HeldToken {
	if in.Secret != SecretOurs {
		return nil
	}
	var list []HeldToken
	if !in.Abandon || in.Denied || in.OnHold {
		list = append(list, in.Held.Tokens...)
	}
	for _, r := range in.Held.Retired {
		list = append(list, HeldToken{Fingerprint: r.Fingerprint, Expires: r.Expires})
	}
	return slices.DeleteFunc(list, func(t HeldToken) bool { return !t.Expires.After(in.Now) })
}

// mayHoldTokens reports whether the Secret holds tokens, or somebody wrote to it so that it may: nobody but the operator
// puts any there.
func (h Held) mayHoldTokens(now time.Time) bool {
	return h.Damaged || h.Touched || len(h.Tokens) > 0 || slices.ContainsFunc(h.Retired, func(r Retired) bool { return r.Expires.After(now) })
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
