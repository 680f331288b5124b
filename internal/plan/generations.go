package plan

import (
	"slices"
	"time"

	"github.com/mqtt-token-operator/mqtt-token-operator/internal/token"
)

// Generation is a live token of a grant that is no longer, or is about to be no longer, the one in use.
type Generation struct {
	Scope token.Scope
	// Client is whom it was issued for, instance included.
	Client string
	// KeyID is the AccessKey id it was issued for; empty where an older manager did not write it down.
	KeyID   string
	Issued  time.Time
	Expires time.Time
	// RevokeAt is what an older manager wrote down; zero: it was left to expire.
	RevokeAt time.Time
}

// Cause says why a token must go before its time.
type Cause string

// The causes, the most urgent first.
const (
	CauseHeld        Cause = "Held"        // the client is to be cut off
	CauseReissued    Cause = "Reissued"    // a reissue asks for it
	CauseDenied      Cause = "Denied"      // the access rules took it away
	CauseNarrowed    Cause = "Narrowed"    // it allows more than the grant does now
	CauseCompromised Cause = "Compromised" // its AccessKey is not to be trusted
	CauseSurplus     Cause = "Surplus"     // there are too many to keep
	CauseDeleted     Cause = "Deleted"     // the grant is gone, or its Secret
)

// Change is what the tokens of older generations are held against.
type Change struct {
	Now    time.Time
	Wanted []token.Scope
	Client string
	// Overlap is how long a token that must be revoked stays usable.
	Overlap time.Duration
	// Compromised is an AccessKey id that is not to be trusted; empty for none.
	Compromised string
	// All has everything revoked for this cause, whatever it allows: at once if somebody is to be cut off, or else after the
	// overlap. Empty: each token is judged by what it allows.
	All Cause
}

// Fate is what becomes of a token of an older generation.
type Fate struct {
	// RevokeAt is when it must be revoked, in whole seconds; zero: it is left to expire.
	RevokeAt time.Time
	Cause    Cause
	// EndsFirst says that it would have to be revoked, but ends by itself before its overlap does.
	EndsFirst bool
}

// Of decides about one token.
func (c Change) Of(g Generation) Fate {
	cause := c.cause(g)
	if cause == "" {
		return Fate{}
	}
	at := c.Now
	if cause != CauseHeld && cause != CauseReissued && cause != CauseSurplus {
		at = earliest(g.RevokeAt, at.Add(c.Overlap))
	}
	at = at.Truncate(time.Second) // what is on record may be odd
	if !at.Before(g.Expires) {
		return Fate{EndsFirst: true}
	}
	return Fate{RevokeAt: at, Cause: cause}
}

func (c Change) cause(g Generation) Cause {
	switch {
	case c.All != "":
		return c.All
	case g.Client != c.Client || Exceeds(g.Scope, c.Wanted) || !g.RevokeAt.IsZero():
		return CauseNarrowed
	case c.Compromised != "" && (g.KeyID == c.Compromised || g.KeyID == ""):
		return CauseCompromised
	}
	return ""
}

// MaxRetired is how many tokens of older generations are left to expire: more than renewals alone ever leave alive,
// nine times three. Older ones are revoked, so that a grant that is reissued all the time does not outgrow its Secret.
const MaxRetired = 32

// OfAll decides about every generation, in the order given. Beyond MaxRetired, those that were issued first must go.
func (c Change) OfAll(generations []Generation) []Fate {
	fates := make([]Fate, len(generations))
	var left []int
	for i, g := range generations {
		if fates[i] = c.Of(g); fates[i].RevokeAt.IsZero() {
			left = append(left, i)
		}
	}
	slices.SortStableFunc(left, func(a, b int) int { return generations[b].Issued.Compare(generations[a].Issued) })
	for _, i := range left[min(len(left), MaxRetired):] {
		surplus := c
		surplus.All = CauseSurplus
		fates[i] = surplus.Of(generations[i])
	}
	return fates
}

// Exceeds reports whether a token with the old scope lets its bearer do something that none of the wanted scopes
// allows. A filter counts as allowed when one wanted filter covers it alone; what only several cover together counts
// as exceeding, which errs on the side of revoking.
func Exceeds(old token.Scope, wanted []token.Scope) bool {
	for _, action := range old.Type.Actions() {
		for _, filter := range old.Topics {
			allowed := func(s token.Scope) bool { return s.Allows(action, filter) }
			if !slices.ContainsFunc(wanted, allowed) {
				return true
			}
		}
	}
	return false
}
