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
		RenewBefore: 8 * time.Hour, Overlap: 5 * time.Minute,
		Secret: plan.SecretOurs,
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

func missing(in *plan.Input)      { in.Secret, in.Held = plan.SecretMissing, plan.Held{} }
func inherited(in *plan.Input)    { in.Secret = plan.SecretInherited }
func foreign(in *plan.Input)      { in.Secret, in.Held = plan.SecretForeign, plan.Held{} }
func unreadable(in *plan.Input)   { in.Secret, in.Held = plan.SecretUnreadable, plan.Held{} }
func deleting(in *plan.Input)     { in.Deleting = true }
func overdue(in *plan.Input)      { in.Overdue = true }
func abandon(in *plan.Input)      { in.Abandon = true }
func onHold(in *plan.Input)       { in.OnHold = true }
func denied(in *plan.Input)       { in.Denied = true }
func withdrawable(in *plan.Input) { in.Withdrawable = true }
func suspended(in *plan.Input)    { in.Suspended = true }
func going(in *plan.Input)        { in.Held.Going = true }
func damaged(in *plan.Input)      { in.Held.Damaged = true }
func touched(in *plan.Input)      { in.Held.Touched = true }
func emptied(in *plan.Input)      { in.Held.Tokens = nil }
func otherScope(in *plan.Input)   { in.Held.ScopeID = "v1-other" }
func otherClient(in *plan.Input)  { in.Held.Client = "other" }
func otherKey(in *plan.Input)     { in.Held.KeyID = "other" }
func unknownKey(in *plan.Input)   { in.KeyID = "" }
func reissue(in *plan.Input)      { in.Reissue = "2" }
func invalid(in *plan.Input)      { in.Held.Invalid = true }
func otherLook(in *plan.Input)    { in.Rendering = "other" }
func flaky(in *plan.Input)        { in.Flaky = true }
func expired(in *plan.Input)      { in.Held.Tokens[1].Expires = now }
func allExpired(in *plan.Input) {
	in.Held.Tokens = []plan.HeldToken{{Fingerprint: "w", Expires: now}, {Fingerprint: "r", Expires: past}}
}

func due(in *plan.Input) {
	in.Held.Issued = now.Add(-17 * time.Hour)
	in.Held.Tokens = []plan.HeldToken{{Fingerprint: "w", Expires: now.Add(7 * time.Hour)}}
}

// dueIfFlaky is due with one and a half times the renewBefore, and not without.
func dueIfFlaky(in *plan.Input) {
	in.Held.Issued = now.Add(-13 * time.Hour)
	in.Held.Tokens = []plan.HeldToken{{Fingerprint: "w", Expires: now.Add(11 * time.Hour)}}
}
func fromFuture(in *plan.Input) { in.Held.Issued = now.Add(plan.FutureTolerance + 1) }
func retired(name string, expires, revokeAt time.Time) func(*plan.Input) {
	return func(in *plan.Input) {
		in.Held.Retired = append(in.Held.Retired, plan.Retired{Fingerprint: name, KeyID: "key", Expires: expires, RevokeAt: revokeAt})
	}
}

// retiredOf is a token that is left to expire, of an AccessKey.
func retiredOf(key string, expires time.Time) func(*plan.Input) {
	return func(in *plan.Input) {
		in.Held.Retired = append(in.Held.Retired, plan.Retired{Fingerprint: "of " + key, KeyID: key, Expires: expires})
	}
}

func compromised(key string) func(*plan.Input) { return func(in *plan.Input) { in.Compromised = key } }
func verifyAt(t time.Time) func(*plan.Input)   { return func(in *plan.Input) { in.VerifyAt = t } }
func applied(t time.Time) func(*plan.Input)    { return func(in *plan.Input) { in.LastApplied = t } }
func notBefore(t time.Time) func(*plan.Input)  { return func(in *plan.Input) { in.NotBefore = t } }

// TestDecide has one row per rule, and for each pair of neighbours one where both match.
func TestDecide(t *testing.T) {
	apply := func(r plan.Reason) plan.Decision { return plan.Decision{Verb: plan.Apply, Reason: r} }
	withdraw := func(r plan.Reason) plan.Decision { return plan.Decision{Verb: plan.Withdraw, Reason: r} }
	wait := func(r plan.Reason, next time.Time) plan.Decision {
		return plan.Decision{Verb: plan.Wait, Reason: r, Next: next}
	}
	release := func(next time.Time, list ...string) plan.Decision {
		return plan.Decision{Verb: plan.Release, Reason: plan.ReasonDeleting, Revoke: list, Next: next}
	}
	handOver := func(next time.Time, list ...string) plan.Decision {
		return plan.Decision{Verb: plan.HandOver, Reason: plan.ReasonDeleting, Revoke: list, Next: next}
	}
	keep := func(next time.Time) plan.Decision {
		return plan.Decision{Verb: plan.Keep, Reason: plan.ReasonCurrent, Next: next}
	}
	never, ends, renewal := time.Time{}, now.Add(23*time.Hour), current().RenewAt()
	adopt := plan.Decision{Verb: plan.Adopt, Reason: plan.ReasonInherited}
	rewriteFor := func(r plan.Reason) plan.Decision { return plan.Decision{Verb: plan.Rewrite, Reason: r} }
	rewrite := rewriteFor(plan.ReasonOutdated)
	verify := plan.Decision{Verb: plan.Verify, Reason: plan.ReasonVerify}
	type mods = []func(*plan.Input)
	for sentence, tc := range map[string]struct {
		mods mods
		want plan.Decision
	}{
		"an unreadable Secret waits for a change":         {mods{unreadable}, wait(plan.ReasonUnreadable, never)},
		"unreadable comes before deleting":                {mods{unreadable, deleting}, wait(plan.ReasonUnreadable, never)},
		"an unreadable Secret holds no deletion for ever": {mods{unreadable, deleting, overdue}, release(never)},

		"deleting revokes what lives, sorted":         {mods{deleting, retired("q", later, never), retired("gone", now, past)}, release(later, "q", "r", "w")},
		"deleting leaves out what expired":            {mods{deleting, expired}, release(ends, "w")},
		"a token named twice is revoked once":         {mods{deleting, abandon, retired("q", later, never), retired("q", soon, never), retired("q", past, never)}, release(soon, "q")},
		"deleting wakes up at a whole second":         {mods{deleting, abandon, retired("q", later.Add(1), never)}, release(later.Add(time.Second), "q")},
		"deleting needs no tokens":                    {mods{deleting, emptied}, release(never)},
		"deleting comes before foreign":               {mods{deleting, foreign}, release(never)},
		"deleting leaves another's tokens alone":      {mods{deleting, inherited}, release(never)},
		"deleting comes before missing":               {mods{deleting, missing}, release(never)},
		"deleting comes before held":                  {mods{deleting, onHold}, release(ends, "r", "w")},
		"deleting comes before denied and suspended":  {mods{deleting, denied, withdrawable, suspended, otherScope}, release(ends, "r", "w")},
		"deleting comes before a Secret that goes":    {mods{deleting, going}, release(ends, "r", "w")},
		"deleting knows no backoff":                   {mods{deleting, applied(now), notBefore(later)}, release(ends, "r", "w")},
		"abandoning leaves the current tokens":        {mods{deleting, abandon, retired("q", later, never)}, release(later, "q")},
		"what was denied cannot be abandoned":         {mods{deleting, abandon, denied}, release(ends, "r", "w")},
		"what is held cannot be abandoned":            {mods{deleting, abandon, onHold}, release(ends, "r", "w")},
		"what is suspended can be abandoned":          {mods{deleting, abandon, suspended}, release(never)},
		"an overdue deletion hands over what lives":   {mods{deleting, overdue, retired("q", later, never)}, handOver(later, "q", "r", "w")},
		"an overdue one with nothing left releases":   {mods{deleting, overdue, allExpired}, release(never)},
		"an overdue one hands over no abandoned ones": {mods{deleting, overdue, abandon}, release(never)},
		"an overdue one hands over held ones":         {mods{deleting, overdue, abandon, onHold}, handOver(ends, "r", "w")},
		"only a deletion is overdue":                  {mods{overdue}, keep(renewal)},

		"a foreign Secret waits for a change":         {mods{foreign}, wait(plan.ReasonForeign, never)},
		"foreign comes before held":                   {mods{foreign, onHold}, wait(plan.ReasonForeign, never)},
		"foreign comes before denied":                 {mods{foreign, denied}, wait(plan.ReasonForeign, never)},
		"another grant's Secret is adopted":           {mods{inherited}, adopt},
		"inherited comes before held":                 {mods{inherited, onHold}, adopt},
		"inherited comes before denied and suspended": {mods{inherited, denied, withdrawable, suspended}, adopt},
		"inherited comes before all reasons to issue": {mods{inherited, going, damaged, otherScope, expired}, adopt},
		"inherited knows no backoff":                  {mods{inherited, applied(now), notBefore(later)}, adopt},

		"a hold withdraws":                                {mods{onHold}, withdraw(plan.ReasonHeld)},
		"a hold withdraws expired tokens":                 {mods{onHold, allExpired}, withdraw(plan.ReasonHeld)},
		"a hold withdraws what only retired tokens allow": {mods{onHold, emptied, retired("q", soon, never)}, withdraw(plan.ReasonHeld)},
		"a hold withdraws a Secret that goes":             {mods{onHold, emptied, going}, withdraw(plan.ReasonHeld)},
		"a hold withdraws once":                           {mods{onHold, emptied, retired("q", now, never)}, wait(plan.ReasonHeld, never)},
		"a hold does not wait for a backoff":              {mods{onHold, applied(now), notBefore(later)}, withdraw(plan.ReasonHeld)},
		"a hold never applies":                            {mods{onHold, missing}, wait(plan.ReasonHeld, never)},
		"a hold leaves an empty Secret as it looks":       {mods{onHold, emptied, otherLook}, wait(plan.ReasonHeld, never)},
		"a hold looks into one that somebody wrote to":    {mods{onHold, emptied, touched}, withdraw(plan.ReasonHeld)},
		"held comes before denied":                        {mods{onHold, denied}, withdraw(plan.ReasonHeld)},
		"held comes before suspended":                     {mods{onHold, suspended}, withdraw(plan.ReasonHeld)},

		"denied keeps what lives until it expires":    {mods{denied}, wait(plan.ReasonDenied, ends)},
		"denied leaves what somebody wrote, too":      {mods{denied, emptied, touched}, wait(plan.ReasonDenied, never)},
		"denied never applies":                        {mods{denied, missing}, wait(plan.ReasonDenied, never)},
		"denied keeps what expired":                   {mods{denied, expired}, wait(plan.ReasonDenied, never)},
		"a denied grant sleeps to a whole second":     {mods{denied, func(in *plan.Input) { in.Held.Tokens[0].Expires = soon.Add(time.Millisecond) }}, wait(plan.ReasonDenied, soon.Add(time.Second))},
		"denied withdraws a Secret that goes":         {mods{denied, going}, withdraw(plan.ReasonDenied)},
		"denied withdraws what it may":                {mods{denied, withdrawable}, withdraw(plan.ReasonDenied)},
		"denied withdraws what retired tokens allow":  {mods{denied, withdrawable, emptied, retired("q", soon, never)}, withdraw(plan.ReasonDenied)},
		"denied withdraws once":                       {mods{denied, withdrawable, emptied}, wait(plan.ReasonDenied, never)},
		"denied withdraws nothing that is not there":  {mods{denied, withdrawable, missing}, wait(plan.ReasonDenied, never)},
		"without a denial nothing may be taken away":  {mods{withdrawable}, keep(renewal)},
		"denied comes before suspended":               {mods{denied, suspended}, wait(plan.ReasonDenied, ends)},
		"suspended keeps what lives until it expires": {mods{suspended}, wait(plan.ReasonSuspended, ends)},
		"suspended withdraws a Secret that goes":      {mods{suspended, going}, withdraw(plan.ReasonSuspended)},
		"suspended withdraws nothing else":            {mods{suspended, withdrawable, retired("q", later, never)}, wait(plan.ReasonSuspended, ends)},
		"suspended comes before missing":              {mods{suspended, missing}, wait(plan.ReasonSuspended, never)},
		"suspended comes before all other reasons":    {mods{suspended, damaged, otherScope, otherKey, reissue, invalid}, wait(plan.ReasonSuspended, ends)},
		"suspended comes before rewriting":            {mods{suspended, otherLook}, wait(plan.ReasonSuspended, ends)},
		"suspended comes before verifying":            {mods{suspended, verifyAt(past)}, wait(plan.ReasonSuspended, ends)},

		"revoking goes on while denied":           {mods{denied, otherLook, retired("x", later, past)}, rewriteFor(plan.ReasonDenied)},
		"revoking goes on while suspended":        {mods{suspended, otherScope, retired("x", later, past)}, rewriteFor(plan.ReasonSuspended)},
		"it does so for a compromised key":        {mods{suspended, compromised("old"), retiredOf("old", later)}, rewriteFor(plan.ReasonSuspended)},
		"it does not under another client's name": {mods{suspended, otherClient, retired("x", later, past)}, wait(plan.ReasonSuspended, ends)},
		"it does not under another key's name":    {mods{suspended, otherKey, retired("x", later, past)}, wait(plan.ReasonSuspended, ends)},
		"it does not while the key is not known":  {mods{suspended, unknownKey, retired("x", later, past)}, wait(plan.ReasonSuspended, ends)},
		"it does not make damage the record":      {mods{suspended, damaged, retired("x", later, past)}, wait(plan.ReasonSuspended, ends)},

		"a missing Secret is issued":                     {mods{missing}, apply(plan.ReasonMissing)},
		"a Secret that goes is as good as missing":       {mods{going}, apply(plan.ReasonMissing)},
		"missing comes before damaged":                   {mods{going, damaged}, apply(plan.ReasonMissing)},
		"a damaged Secret is issued again":               {mods{damaged}, apply(plan.ReasonDamaged)},
		"damaged comes before taken out":                 {mods{damaged, emptied}, apply(plan.ReasonDamaged)},
		"tokens that were taken out may be there again":  {mods{emptied}, apply(plan.ReasonMissing)},
		"taken out comes before another scope":           {mods{emptied, otherScope}, apply(plan.ReasonMissing)},
		"damaged comes before another scope":             {mods{damaged, otherScope}, apply(plan.ReasonDamaged)},
		"another scope is issued":                        {mods{otherScope}, apply(plan.ReasonScopeChanged)},
		"another client is another scope":                {mods{otherClient}, apply(plan.ReasonScopeChanged)},
		"another scope comes before another key":         {mods{otherScope, otherKey}, apply(plan.ReasonScopeChanged)},
		"another key is issued for":                      {mods{otherKey}, apply(plan.ReasonKeyRotated)},
		"an unknown key changes nothing":                 {mods{unknownKey}, keep(renewal)},
		"another key comes before a reissue":             {mods{otherKey, reissue}, apply(plan.ReasonKeyRotated)},
		"a new value asks for a reissue":                 {mods{reissue}, apply(plan.ReasonReissue)},
		"a value taken away asks for nothing":            {mods{func(in *plan.Input) { in.Reissue = "" }}, keep(renewal)},
		"a reissue comes before an invalid token":        {mods{reissue, invalid}, apply(plan.ReasonReissue)},
		"a token that the service calls invalid goes":    {mods{invalid}, apply(plan.ReasonInvalid)},
		"an invalid token comes before the future":       {mods{invalid, fromFuture}, apply(plan.ReasonInvalid)},
		"a reissue comes before the future":              {mods{reissue, fromFuture}, apply(plan.ReasonReissue)},
		"an issue in the future means a clock went back": {mods{fromFuture}, apply(plan.ReasonFuture)},
		"an issue within the tolerance is no future":     {mods{func(in *plan.Input) { in.Held.Issued = now.Add(plan.FutureTolerance) }}, keep(futureRenewal())},
		"the future comes before expired":                {mods{fromFuture, expired}, apply(plan.ReasonFuture)},
		"one expired token of two is expired":            {mods{expired}, apply(plan.ReasonExpired)},
		"expired comes before due":                       {mods{due, func(in *plan.Input) { in.Held.Tokens[0].Expires = now }}, apply(plan.ReasonExpired)},
		"past the renewal is due":                        {mods{due}, apply(plan.ReasonDue)},
		"a flaky service makes it due earlier":           {mods{dueIfFlaky, flaky}, apply(plan.ReasonDue)},
		"a steady service does not":                      {mods{dueIfFlaky}, keep(current(dueIfFlaky).RenewAt())},
		"due comes before rewriting":                     {mods{due, otherLook}, apply(plan.ReasonDue)},
		"issuing comes before rewriting":                 {mods{otherScope, retired("x", later, past)}, apply(plan.ReasonScopeChanged)},

		"another look is rewritten":                          {mods{otherLook}, rewrite},
		"what somebody touched is rewritten":                 {mods{touched}, rewrite},
		"what an older manager meant to revoke is rewritten": {mods{retired("x", later, past)}, rewrite},
		"it is so before its overlap is over":                {mods{retired("x", later, soon)}, rewrite},
		"an overlap past the token's end is none":            {mods{retired("x", now, past), retired("y", soon, later), retired("z", later, never)}, keep(renewal)},
		"a compromised key's retired token is rewritten":     {mods{compromised("old"), retiredOf("key", later), retiredOf("old", later)}, rewrite},
		"one of a key that nobody wrote down is so too":      {mods{compromised("old"), retiredOf("", later)}, rewrite},
		"a compromised one that ends first is left":          {mods{compromised("old"), retiredOf("old", now.Add(5*time.Minute))}, keep(renewal)},
		"a compromised one that ended is left":               {mods{compromised("old"), func(in *plan.Input) { in.Overlap = 0 }, retiredOf("old", now)}, keep(renewal)},
		"another key's retired token is left":                {mods{compromised("old"), retiredOf("key", later)}, keep(renewal)},
		"without a compromised key all are left":             {mods{retiredOf("key", later), retiredOf("", later)}, keep(renewal)},
		"a compromised key that is in use is kept":           {mods{compromised("key")}, keep(renewal)},
		"rewriting comes before verifying":                   {mods{touched, verifyAt(past)}, rewrite},

		"a verification is due at its very moment":    {mods{verifyAt(now)}, verify},
		"a verification comes before keeping":         {mods{verifyAt(past), retired("z", later, never)}, verify},
		"a verification knows no backoff":             {mods{verifyAt(past), applied(now), notBefore(later)}, verify},
		"issuing comes before verifying":              {mods{due, verifyAt(past)}, apply(plan.ReasonDue)},
		"what is current is kept until its renewal":   {nil, keep(renewal)},
		"it is kept until a flaky service's renewal":  {mods{flaky}, keep(current(flaky).RenewAt())},
		"it is kept until its verification":           {mods{verifyAt(soon)}, keep(soon)},
		"an odd verification is a moment later":       {mods{verifyAt(soon.Add(-1))}, keep(soon)},
		"a verification past the renewal is not next": {mods{verifyAt(ends)}, keep(renewal)},

		"a failure holds the next attempt back":         {mods{due, notBefore(soon)}, wait(plan.ReasonBackoff, soon)},
		"an attempt may come at its very moment":        {mods{due, notBefore(now)}, apply(plan.ReasonDue)},
		"an attempt held back sleeps to a whole second": {mods{due, notBefore(soon.Add(1))}, wait(plan.ReasonBackoff, soon.Add(time.Second))},
		"a failure holds what the spec asks for too":    {mods{otherScope, notBefore(soon)}, wait(plan.ReasonBackoff, soon)},
		"a first failure without an issue holds it too": {mods{missing, notBefore(soon)}, wait(plan.ReasonBackoff, soon)},
		"backoff comes before rewriting":                {mods{due, otherLook, notBefore(soon)}, wait(plan.ReasonBackoff, soon)},
		"backoff comes before verifying":                {mods{due, verifyAt(past), notBefore(soon)}, wait(plan.ReasonBackoff, soon)},
		"revoking goes on while issuing has to wait":    {mods{otherScope, notBefore(soon), retired("x", later, past)}, rewriteFor(plan.ReasonBackoff)},
		"a Secret that goes is not written again":       {mods{going, notBefore(soon), retired("x", later, past)}, wait(plan.ReasonBackoff, soon)},
		"a failure holds no rewriting":                  {mods{touched, notBefore(soon)}, rewrite},
		"a Secret that goes waits for the next attempt": {mods{going, notBefore(soon)}, wait(plan.ReasonBackoff, soon)},
		"a Secret deleted right after an issue waits":   {mods{missing, applied(now.Add(-time.Second))}, wait(plan.ReasonBackoff, now.Add(9*time.Second))},
		"one that goes right after an issue waits":      {mods{going, applied(now.Add(-time.Second))}, wait(plan.ReasonBackoff, now.Add(9*time.Second))},
		"a Secret damaged right after an issue waits":   {mods{damaged, applied(now)}, wait(plan.ReasonBackoff, now.Add(10*time.Second))},
		"a token called invalid right after one waits":  {mods{invalid, applied(now)}, wait(plan.ReasonBackoff, now.Add(10*time.Second))},
		"a hold let go right after an issue waits":      {mods{emptied, applied(now)}, wait(plan.ReasonBackoff, now.Add(10*time.Second))},
		"the later of floor and backoff counts":         {mods{damaged, applied(now), notBefore(soon)}, wait(plan.ReasonBackoff, soon)},
		"the floor passes":                              {mods{missing, applied(now.Add(-plan.ReissueFloor))}, apply(plan.ReasonMissing)},
		"an edit right after an issue need not wait":    {mods{otherScope, applied(now)}, apply(plan.ReasonScopeChanged)},
		"a key rotated right after one need not wait":   {mods{otherKey, applied(now)}, apply(plan.ReasonKeyRotated)},
		"a reissue right after one need not wait":       {mods{reissue, applied(now)}, apply(plan.ReasonReissue)},
		"a forged scope waits like damage":              {mods{otherScope, touched, applied(now)}, wait(plan.ReasonBackoff, now.Add(10*time.Second))},
		"an expiry forged right after an issue waits":   {mods{expired, touched, applied(now)}, wait(plan.ReasonBackoff, now.Add(10*time.Second))},
		"an issue that ends at once does not loop":      {mods{expired, applied(now)}, wait(plan.ReasonBackoff, now.Add(10*time.Second))},
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

func TestExpiresIsTheFirstEnd(t *testing.T) {
	held := plan.Held{Tokens: []plan.HeldToken{{Expires: later}, {Expires: soon}, {Expires: later}}}
	if got := held.Expires(); !got.Equal(soon) {
		t.Errorf("got %v, want %v", got, soon)
	}
	if got := (plan.Held{}).Expires(); !got.IsZero() {
		t.Errorf("without tokens: %v", got)
	}
}
