package plan_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mqtt-token-operator/mqtt-token-operator/internal/plan"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/token"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/topic"
)

var (
	now   = time.Date(2027, time.March, 5, 7, 11, 13, 0, time.UTC)
	later = now.Add(time.Hour)
	soon  = now.Add(time.Minute)
	past  = now.Add(-time.Minute)
)

func scope(kind token.Type, filters ...string) token.Scope {
	var list []topic.Filter
	for _, f := range filters {
		list = append(list, topic.MustParse(f))
	}
	s, err := token.NewScope(kind, list...)
	if err != nil {
		panic(err)
	}
	return s
}

// current is a grant whose Secret holds what is wanted, an hour old and good for a day.
func current(mods ...func(*plan.Input)) plan.Input {
	wanted := []token.Scope{scope(token.Publish, "a"), scope(token.Subscribe, "b")}
	in := plan.Input{
		Now: now, Seed: "uid", Wanted: wanted, Client: "client", KeyID: "key", Reissue: "1", Rendering: "look",
		RenewBefore: 8 * time.Hour,
		Secret:      plan.SecretOurs,
		Held: plan.Held{
			ScopeID: token.ScopeID(wanted), Client: "client", KeyID: "key", Reissue: "1", Rendering: "look", Issued: now.Add(-time.Hour),
			Tokens: []plan.HeldToken{{Fingerprint: "w", Expires: now.Add(23 * time.Hour)}, {Fingerprint: "r", Expires: now.Add(23 * time.Hour)}},
		},
	}
	for _, mod := range mods {
		mod(&in)
	}
	return in
}

func missing(in *plan.Input)     { in.Secret, in.Held = plan.SecretMissing, plan.Held{} }
func foreign(in *plan.Input)     { in.Secret, in.Held = plan.SecretForeign, plan.Held{} }
func unreadable(in *plan.Input)  { in.Secret, in.Held = plan.SecretUnreadable, plan.Held{} }
func deleting(in *plan.Input)    { in.Deleting = true }
func abandon(in *plan.Input)     { in.Abandon = true }
func denied(in *plan.Input)      { in.Denied = true }
func suspended(in *plan.Input)   { in.Suspended = true }
func damaged(in *plan.Input)     { in.Held.Damaged = true }
func touched(in *plan.Input)     { in.Held.Touched = true }
func otherScope(in *plan.Input)  { in.Held.ScopeID = "v1-other" }
func otherClient(in *plan.Input) { in.Held.Client = "other" }
func otherKey(in *plan.Input)    { in.Held.KeyID = "other" }
func reissue(in *plan.Input)     { in.Reissue = "2" }
func otherLook(in *plan.Input)   { in.Rendering = "other" }
func expired(in *plan.Input)     { in.Held.Tokens[1].Expires = now }
func due(in *plan.Input) {
	in.Held.Issued = now.Add(-17 * time.Hour)
	in.Held.Tokens = []plan.HeldToken{{Fingerprint: "w", Expires: now.Add(7 * time.Hour)}}
}
func fromFuture(in *plan.Input) { in.Held.Issued = now.Add(plan.FutureTolerance + 1) }
func retired(name string, expires, revokeAt time.Time) func(*plan.Input) {
	return func(in *plan.Input) {
		in.Held.Retired = append(in.Held.Retired, plan.Retired{Fingerprint: name, Expires: expires, RevokeAt: revokeAt})
	}
}
func applied(t time.Time) func(*plan.Input)   { return func(in *plan.Input) { in.LastApplied = t } }
func notBefore(t time.Time) func(*plan.Input) { return func(in *plan.Input) { in.NotBefore = t } }

// TestDecide has one row per rule, and for each pair of neighbours one where both match.
func TestDecide(t *testing.T) {
	apply := func(r plan.Reason) plan.Decision { return plan.Decision{Verb: plan.Apply, Reason: r} }
	wait := func(r plan.Reason, next time.Time) plan.Decision {
		return plan.Decision{Verb: plan.Wait, Reason: r, Next: next}
	}
	release := func(next time.Time, list ...string) plan.Decision {
		return plan.Decision{Verb: plan.Release, Reason: plan.ReasonDeleting, Revoke: list, Next: next}
	}
	ends := now.Add(23 * time.Hour)
	revoke := func(list ...string) plan.Decision {
		return plan.Decision{Verb: plan.Revoke, Reason: plan.ReasonRevocationDue, Revoke: list}
	}
	keep := func(next time.Time) plan.Decision {
		return plan.Decision{Verb: plan.Keep, Reason: plan.ReasonCurrent, Next: next}
	}
	rewrite := plan.Decision{Verb: plan.Rewrite, Reason: plan.ReasonOutdated}
	type mods = []func(*plan.Input)
	for sentence, tc := range map[string]struct {
		mods mods
		want plan.Decision
	}{
		"an unreadable Secret waits for a change":        {mods{unreadable}, wait(plan.ReasonUnreadable, time.Time{})},
		"unreadable comes before deleting":               {mods{unreadable, deleting}, wait(plan.ReasonUnreadable, time.Time{})},
		"deleting revokes what lives, sorted":            {mods{deleting, retired("q", later, time.Time{}), retired("gone", now, past)}, release(later, "q", "r", "w")},
		"deleting leaves out what expired":               {mods{deleting, expired}, release(ends, "w")},
		"deleting comes before foreign":                  {mods{deleting, foreign}, release(time.Time{})},
		"deleting comes before missing":                  {mods{deleting, missing}, release(time.Time{})},
		"deleting comes before denied and suspended":     {mods{deleting, denied, suspended, otherScope}, release(ends, "r", "w")},
		"abandoning leaves the current tokens":           {mods{deleting, abandon, retired("q", later, time.Time{})}, release(later, "q")},
		"what was denied cannot be abandoned":            {mods{deleting, abandon, denied}, release(ends, "r", "w")},
		"a foreign Secret waits for a change":            {mods{foreign}, wait(plan.ReasonForeign, time.Time{})},
		"foreign comes before denied":                    {mods{foreign, denied}, wait(plan.ReasonForeign, time.Time{})},
		"an overlap that is over is revoked":             {mods{retired("y", later, now), retired("x", later, past), retired("z", later, soon)}, revoke("x", "y")},
		"an overlap past the token's end is none":        {mods{retired("x", now, past), retired("y", soon, later), retired("z", later, time.Time{})}, keep(current().RenewAt())},
		"revoking comes before denied":                   {mods{denied, retired("x", later, past)}, revoke("x")},
		"revoking comes before suspended":                {mods{suspended, retired("x", later, past)}, revoke("x")},
		"revoking comes before rewriting":                {mods{otherLook, retired("x", later, past)}, revoke("x")},
		"issuing comes before revoking":                  {mods{otherScope, retired("x", later, past)}, apply(plan.ReasonScopeChanged)},
		"revoking goes on while issuing has to wait":     {mods{otherScope, notBefore(soon), retired("x", later, past)}, revoke("x")},
		"denied keeps what lives until it expires":       {mods{denied}, wait(plan.ReasonDenied, now.Add(23*time.Hour))},
		"denied never applies":                           {mods{denied, missing}, wait(plan.ReasonDenied, time.Time{})},
		"denied waits for the next overlap":              {mods{denied, expired, retired("x", later, soon)}, wait(plan.ReasonDenied, soon)},
		"denied comes before suspended":                  {mods{denied, suspended}, wait(plan.ReasonDenied, now.Add(23*time.Hour))},
		"suspended keeps what lives until it expires":    {mods{suspended}, wait(plan.ReasonSuspended, now.Add(23*time.Hour))},
		"suspended comes before missing":                 {mods{suspended, missing}, wait(plan.ReasonSuspended, time.Time{})},
		"suspended comes before rewriting":               {mods{suspended, otherLook}, wait(plan.ReasonSuspended, now.Add(23*time.Hour))},
		"a missing Secret is issued":                     {mods{missing}, apply(plan.ReasonMissing)},
		"a damaged Secret is issued again":               {mods{damaged}, apply(plan.ReasonDamaged)},
		"a Secret without tokens is damaged":             {mods{func(in *plan.Input) { in.Held.Tokens = nil }}, apply(plan.ReasonDamaged)},
		"damaged comes before another scope":             {mods{damaged, otherScope}, apply(plan.ReasonDamaged)},
		"another scope is issued":                        {mods{otherScope}, apply(plan.ReasonScopeChanged)},
		"another client is another scope":                {mods{otherClient}, apply(plan.ReasonScopeChanged)},
		"another scope comes before another key":         {mods{otherScope, otherKey}, apply(plan.ReasonScopeChanged)},
		"another key is issued for":                      {mods{otherKey}, apply(plan.ReasonKeyRotated)},
		"an unknown key changes nothing":                 {mods{func(in *plan.Input) { in.KeyID = "" }}, keep(current().RenewAt())},
		"another key comes before a reissue":             {mods{otherKey, reissue}, apply(plan.ReasonKeyRotated)},
		"a new value asks for a reissue":                 {mods{reissue}, apply(plan.ReasonReissue)},
		"a value taken away asks for nothing":            {mods{func(in *plan.Input) { in.Reissue = "" }}, keep(current().RenewAt())},
		"a reissue comes before the future":              {mods{reissue, fromFuture}, apply(plan.ReasonReissue)},
		"an issue in the future means a clock went back": {mods{fromFuture}, apply(plan.ReasonFuture)},
		"the future comes before expired":                {mods{fromFuture, expired}, apply(plan.ReasonFuture)},
		"one expired token of two is expired":            {mods{expired}, apply(plan.ReasonExpired)},
		"expired comes before due":                       {mods{due, func(in *plan.Input) { in.Held.Tokens[0].Expires = now }}, apply(plan.ReasonExpired)},
		"past the renewal is due":                        {mods{due}, apply(plan.ReasonDue)},
		"due comes before rewriting":                     {mods{due, otherLook}, apply(plan.ReasonDue)},
		"another look is rewritten":                      {mods{otherLook}, rewrite},
		"what somebody touched is rewritten":             {mods{touched}, rewrite},
		"what is current is kept until its renewal":      {nil, keep(current().RenewAt())},
		"what is current is kept until an overlap ends":  {mods{retired("x", later, soon), retired("y", later, later.Add(-1))}, keep(soon)},
		"an odd overlap is asked for a moment later":     {mods{retired("x", later, soon.Add(-1))}, keep(soon)},

		"a failure holds the next attempt back":         {mods{due, notBefore(soon)}, wait(plan.ReasonBackoff, soon)},
		"an attempt may come at its very moment":        {mods{due, notBefore(now)}, apply(plan.ReasonDue)},
		"a held back attempt wakes up for an overlap":   {mods{due, notBefore(later), retired("x", later, soon)}, wait(plan.ReasonBackoff, soon)},
		"a Secret deleted right after an issue waits":   {mods{missing, applied(now.Add(-time.Second))}, wait(plan.ReasonBackoff, now.Add(9*time.Second))},
		"a Secret damaged right after an issue waits":   {mods{damaged, applied(now)}, wait(plan.ReasonBackoff, now.Add(10*time.Second))},
		"the later of floor and backoff counts":         {mods{damaged, applied(now), notBefore(soon)}, wait(plan.ReasonBackoff, soon)},
		"the floor passes":                              {mods{missing, applied(now.Add(-plan.ReissueFloor))}, apply(plan.ReasonMissing)},
		"an edit right after an issue need not wait":    {mods{otherScope, applied(now)}, apply(plan.ReasonScopeChanged)},
		"a forged scope waits like damage":              {mods{otherScope, touched, applied(now)}, wait(plan.ReasonBackoff, now.Add(10*time.Second))},
		"an expiry forged right after an issue waits":   {mods{expired, touched, applied(now)}, wait(plan.ReasonBackoff, now.Add(10*time.Second))},
		"an issue that ends at once does not loop":      {mods{expired, applied(now)}, wait(plan.ReasonBackoff, now.Add(10*time.Second))},
		"an issue within the tolerance is no future":    {mods{func(in *plan.Input) { in.Held.Issued = now.Add(plan.FutureTolerance) }}, keep(futureRenewal())},
		"a denied grant sleeps to a whole second":       {mods{denied, func(in *plan.Input) { in.Held.Tokens[0].Expires = soon.Add(time.Millisecond) }}, wait(plan.ReasonDenied, soon.Add(time.Second))},
		"a first failure without an issue holds it too": {mods{missing, notBefore(soon)}, wait(plan.ReasonBackoff, soon)},
	} {
		t.Run(sentence, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, plan.Decide(current(tc.mods...))); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func futureRenewal() time.Time {
	return plan.RenewAt(now.Add(plan.FutureTolerance), now.Add(23*time.Hour), 8*time.Hour, "uid")
}

func TestPendingRevocationsCountsWhatIsStillToDo(t *testing.T) {
	in := current(retired("due", later, past), retired("ahead", later, soon), retired("left to expire", later, time.Time{}),
		retired("over", past, past.Add(-time.Minute)), retired("ends before its overlap", soon, later))
	if got := in.Held.PendingRevocations(now); got != 2 {
		t.Errorf("got %d, want 2", got)
	}
}

func TestExpiresIsTheFirstEnd(t *testing.T) {
	held := plan.Held{Tokens: []plan.HeldToken{{Expires: later}, {Expires: soon}, {Expires: later}}}
	if got := held.Expires(); !got.Equal(soon) {
		t.Errorf("got %v, want %v", got, soon)
	}
	if got := (plan.Held{}).Expires(); !got.IsZero() {
		t.Errorf("without tokens: %v", got)
	}
}
