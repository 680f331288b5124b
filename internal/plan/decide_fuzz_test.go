package plan_test

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mqtt-token-operator/mqtt-token-operator/internal/plan"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/token"
)

// FuzzDecide carries decisions out in a small model of a controller and looks where that ends.
func FuzzDecide(f *testing.F) {
	f.Add(uint64(0), int64(86_400), int64(28_800), int64(3600), "uid")
	f.Add(uint64(0b1), int64(120), int64(96), int64(200), "a")
	f.Add(uint64(0b1111_0000_1111), int64(600), int64(10), int64(-600), "b")
	f.Add(uint64(1<<63), int64(2_592_000), int64(1), int64(2_592_000), "c")
	const overlap = uint64(2) << 56
	for bit := range 64 { // each fact by itself and beside each other one
		for other := range bit + 1 {
			f.Add(overlap|uint64(1)<<bit|uint64(1)<<other, int64(7200), int64(1800), int64(60), "d")
		}
	}
	f.Fuzz(func(t *testing.T, facts uint64, validity, renewBefore, age int64, seed string) {
		in, life := situation(facts, validity, renewBefore, age, seed)
		for steps := 0; ; steps++ {
			decision := plan.Decide(in)
			if diff := cmp.Diff(decision, plan.Decide(in)); diff != "" {
				t.Fatalf("asked twice, answered twice: %s", diff)
			}
			hold(t, in, decision)
			switch decision.Verb {
			case plan.Keep, plan.Wait:
				settled(t, in, decision)
				return
			case plan.Release, plan.HandOver:
				return
			default:
			}
			if steps > 3 {
				t.Fatalf("no end: %+v after %d steps", decision, steps)
			}
			in = carryOut(in, decision, life)
		}
	})
}

// hold checks what is true of every decision.
func hold(t *testing.T, in plan.Input, d plan.Decision) {
	t.Helper()
	mayIssue := !in.Deleting && !in.OnHold && !in.Denied && !in.Suspended &&
		(in.Secret == plan.SecretMissing || in.Secret == plan.SecretOurs)
	mayTake := in.OnHold || in.Denied && in.Withdrawable || in.Held.Going
	final := d.Verb == plan.Release || d.Verb == plan.HandOver
	switch {
	case !d.Next.Equal(d.Next.Truncate(time.Second)):
		t.Fatalf("next %v is not in whole seconds", d.Next)
	case !d.Next.IsZero() && !d.Next.After(in.Now):
		t.Fatalf("%+v: next is not ahead of %v", d, in.Now)
	case d.Verb == plan.Apply && !mayIssue:
		t.Fatalf("applies for a grant that must not: %+v", in)
	case d.Verb == plan.Apply && in.NotBefore.After(in.Now):
		t.Fatal("applies before its time")
	case d.Verb == plan.Withdraw && (!mayTake || in.Secret != plan.SecretOurs):
		t.Fatalf("takes away what it must not: %+v", in)
	case d.Verb == plan.Adopt && in.Secret != plan.SecretInherited:
		t.Fatalf("adopts what is nobody's to give: %+v", in)
	case d.Verb == plan.Rewrite && (in.Secret != plan.SecretOurs || in.Held.Client != in.Client || in.KeyID != "" && in.Held.KeyID != in.KeyID):
		t.Fatalf("writes tokens under a name or a key that is not theirs: %+v", in)
	case d.Verb == plan.Verify && (in.Secret != plan.SecretOurs || in.VerifyAt.IsZero() || in.VerifyAt.After(in.Now)):
		t.Fatalf("asks the service before it is time: %+v", in)
	case d.Verb == plan.Keep && (!d.Next.After(in.Now) || !d.Next.Before(in.Held.Expires())):
		t.Fatalf("keeps until %v what expires at %v, at %v", d.Next, in.Held.Expires(), in.Now)
	case !slices.IsSorted(d.Revoke):
		t.Fatalf("revokes in no order: %q", d.Revoke)
	case len(d.Revoke) > 0 && (!final || in.Secret != plan.SecretOurs):
		t.Fatalf("%+v of %+v", d, in)
	case final != (in.Deleting && in.Secret != plan.SecretUnreadable):
		t.Fatalf("%+v of a grant with deleting %v", d, in.Deleting)
	case d.Verb == plan.HandOver && (!in.Overdue || len(d.Revoke) == 0):
		t.Fatalf("hands %q over, overdue %v", d.Revoke, in.Overdue)
	case d.Verb == plan.Release && in.Overdue && len(d.Revoke) > 0:
		t.Fatal("waits for ever")
	}
}

// settled checks what is true when there is nothing more to do, now and when the decision wants to be asked again.
func settled(t *testing.T, in plan.Input, d plan.Decision) {
	t.Helper()
	if in.OnHold && in.Secret == plan.SecretOurs && len(in.Held.Tokens) > 0 {
		t.Fatal("a held client has tokens")
	}
	end := in.Now.Add(in.Overlap)
	asRecorded := d.Verb == plan.Keep || in.Secret == plan.SecretOurs && !in.Held.Going && !in.Held.Damaged &&
		in.Held.Client == in.Client && in.Held.KeyID == in.KeyID
	for _, r := range in.Held.Retired {
		mustGo := !r.RevokeAt.IsZero() && r.RevokeAt.Before(r.Expires) || in.Compromised != "" && (r.KeyID == in.Compromised || r.KeyID == "")
		if asRecorded && mustGo && r.Expires.After(end) {
			t.Fatalf("%+v is usable after %v and in no ledger", r, end)
		}
	}
	if d.Next.IsZero() || d.Reason != plan.ReasonCurrent && d.Reason != plan.ReasonBackoff {
		return
	}
	in.Now = d.Next
	if then := plan.Decide(in); then.Verb == plan.Keep || then.Verb == plan.Wait {
		t.Fatalf("woke up at %v for nothing: %+v", in.Now, then)
	}
}

// carryOut is what a controller does about a decision, without its faults.
func carryOut(in plan.Input, d plan.Decision, life time.Duration) plan.Input {
	switch d.Verb {
	case plan.Apply:
		in.Held = plan.Held{
			ScopeID: token.ScopeID(in.Wanted), Client: in.Client, KeyID: in.KeyID, Reissue: in.Reissue, Rendering: in.Rendering,
			Issued: in.Now, Retired: leftInSecret(in, append(superseded(in), in.Held.Retired...)),
		}
		for range in.Wanted {
			in.Held.Tokens = append(in.Held.Tokens, plan.HeldToken{Fingerprint: "new", Expires: in.Now.Add(life)})
		}
		in.Secret, in.LastApplied, in.NotBefore = plan.SecretOurs, in.Now, time.Time{}
	case plan.Rewrite:
		in.Held.Rendering, in.Held.Touched = in.Rendering, false
		in.Held.Retired = leftInSecret(in, in.Held.Retired)
	case plan.Verify:
		in.VerifyAt = plan.VerifyAt(in.Now, time.Hour, in.Seed)
	case plan.Adopt:
		in.Secret = plan.SecretOurs
	case plan.Withdraw:
		if in.Held.Tokens, in.Held.Retired, in.Held.Damaged, in.Held.Touched = nil, nil, false, false; in.Held.Going { // nothing holds the Secret any more
			in.Secret, in.Held = plan.SecretMissing, plan.Held{}
		}
	default:
	}
	return in
}

// superseded are the tokens in use as those that newer ones replace.
func superseded(in plan.Input) []plan.Retired {
	var old []plan.Retired
	for _, h := range in.Held.Tokens {
		old = append(old, plan.Retired{Fingerprint: h.Fingerprint, KeyID: in.Held.KeyID, Expires: h.Expires})
	}
	return old
}

// leftInSecret leaves out what has ended and what goes to the ledger. No retired token allows more than is wanted: that
// is what FuzzChangeOfAll is about.
func leftInSecret(in plan.Input, retired []plan.Retired) []plan.Retired {
	change := plan.Change{Now: in.Now, Wanted: in.Wanted, Client: in.Client, Overlap: in.Overlap, Compromised: in.Compromised}
	var generations []plan.Generation
	for _, r := range retired {
		generations = append(generations, plan.Generation{
			Scope: in.Wanted[0], Client: in.Client, KeyID: r.KeyID, Issued: in.Held.Issued, Expires: r.Expires, RevokeAt: r.RevokeAt,
		})
	}
	var left []plan.Retired
	for i, fate := range change.OfAll(generations) {
		if r := retired[i]; fate.RevokeAt.IsZero() && r.Expires.After(in.Now) {
			left = append(left, plan.Retired{Fingerprint: r.Fingerprint, KeyID: r.KeyID, Expires: r.Expires})
		}
	}
	return left
}

// situation makes an input out of any numbers, and how long its tokens last; validity and renewBefore stay within what the API accepts.
func situation(facts uint64, validity, renewBefore, age int64, seed string) (in plan.Input, life time.Duration) {
	life = time.Duration(120+abs(validity)%(720*3600-119)) * time.Second
	in = current(func(in *plan.Input) {
		in.Seed = seed
		in.RenewBefore = min(time.Duration(10+abs(renewBefore)%(720*3600))*time.Second, life*8/10)
		in.Held.Issued = now.Add(-time.Duration(age%(1440*3600))*time.Second - time.Duration(facts%1_000_000))
		for i := range in.Held.Tokens {
			in.Held.Tokens[i].Expires = in.Held.Issued.Add(life)
		}
		in.Overlap = time.Duration(facts>>56%4) * time.Minute
	})
	for bit, mod := range []func(*plan.Input){
		deleting, overdue, abandon, onHold, denied, withdrawable, suspended, flaky,
		going, damaged, touched, otherScope, otherClient, otherKey, unknownKey, reissue, invalid, otherLook, expired,
		retired("x", later, past), retired("y", later, soon.Add(time.Millisecond)), retired("z", later, time.Time{}), retired("v", past, past.Add(-1)),
		retiredOf("old", later), retiredOf("old", soon), retiredOf("old", past), retiredOf("", later.Add(1)), compromised("old"), compromised("key"),
		retired("u", soon, later), retired("t", soon.Add(1), soon),
		applied(now.Add(-1)), applied(now.Add(-time.Hour)), notBefore(soon.Add(1)), notBefore(past),
		verifyAt(past), verifyAt(now), verifyAt(soon.Add(1)), verifyAt(later.Add(720 * time.Hour)),
		func(in *plan.Input) { in.Now = in.Now.Add(time.Duration(facts % 1_000_000_000)) }, emptied,
	} {
		if facts>>bit&1 == 1 {
			mod(&in)
		}
	}
	switch facts >> 60 % 8 {
	case 4:
		inherited(&in)
	case 5:
		missing(&in)
	case 6:
		foreign(&in)
	case 7:
		unreadable(&in)
	default:
	}
	return in, life
}
