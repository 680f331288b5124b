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
	f.Fuzz(func(t *testing.T, facts uint64, validity, renewBefore, age int64, seed string) {
		in, life, overlap := situation(facts, validity, renewBefore, age, seed)
		for steps := 0; ; steps++ {
			decision := plan.Decide(in)
			if diff := cmp.Diff(decision, plan.Decide(in)); diff != "" {
				t.Fatalf("asked twice, answered twice: %s", diff)
			}
			hold(t, in, decision)
			if decision.Verb == plan.Keep || decision.Verb == plan.Wait || decision.Verb == plan.Release {
				break
			}
			if steps > 4 {
				t.Fatalf("no end: %+v after %d steps", decision, steps)
			}
			in = carryOut(in, decision, life, overlap)
		}
	})
}

// hold checks what is true of every decision.
func hold(t *testing.T, in plan.Input, d plan.Decision) {
	t.Helper()
	switch {
	case !d.Next.Equal(d.Next.Truncate(time.Second)):
		t.Fatalf("next %v is not in whole seconds", d.Next)
	case !d.Next.IsZero() && !d.Next.After(in.Now):
		t.Fatalf("%+v: next is not ahead of %v", d, in.Now)
	case d.Verb == plan.Apply && (in.Deleting || in.Denied || in.Suspended || in.Secret == plan.SecretForeign || in.Secret == plan.SecretUnreadable):
		t.Fatalf("applies for a grant that must not: %+v", in)
	case d.Verb == plan.Apply && in.NotBefore.After(in.Now):
		t.Fatal("applies before its time")
	case d.Verb == plan.Keep && (!d.Next.After(in.Now) || !d.Next.Before(in.Held.Expires())):
		t.Fatalf("keeps until %v what expires at %v, at %v", d.Next, in.Held.Expires(), in.Now)
	case !slices.IsSorted(d.Revoke):
		t.Fatalf("revokes in no order: %q", d.Revoke)
	case d.Verb == plan.Revoke && len(d.Revoke) == 0:
		t.Fatal("revokes nothing")
	}
}

// carryOut is what a controller does about a decision, without its faults.
func carryOut(in plan.Input, d plan.Decision, life, overlap time.Duration) plan.Input {
	switch d.Verb {
	case plan.Apply:
		var old []plan.Retired
		for _, h := range in.Held.Tokens {
			exceeds := in.Held.ScopeID != token.ScopeID(in.Wanted)
			old = append(old, plan.Retired{
				Fingerprint: h.Fingerprint, Expires: h.Expires, RevokeAt: plan.RevokeAt(time.Time{}, exceeds, in.Now, overlap),
			})
		}
		in.Secret, in.LastApplied, in.NotBefore = plan.SecretOurs, in.Now, time.Time{}
		in.Held = plan.Held{
			ScopeID: token.ScopeID(in.Wanted), Client: in.Client, KeyID: in.KeyID, Reissue: in.Reissue, Rendering: in.Rendering,
			Issued: in.Now, Retired: append(old, in.Held.Retired...),
		}
		for range in.Wanted {
			in.Held.Tokens = append(in.Held.Tokens, plan.HeldToken{Fingerprint: "new", Expires: in.Now.Add(life)})
		}
	case plan.Rewrite:
		in.Held.Rendering, in.Held.Touched = in.Rendering, false
	case plan.Revoke:
		in.Held.Retired = slices.DeleteFunc(slices.Clone(in.Held.Retired), func(r plan.Retired) bool {
			return slices.Contains(d.Revoke, r.Fingerprint)
		})
	default:
	}
	return in
}

// situation makes an input out of any numbers, and how long its tokens last and overlap; validity and renewBefore stay within what the API accepts.
func situation(facts uint64, validity, renewBefore, age int64, seed string) (in plan.Input, life, overlap time.Duration) {
	life = time.Duration(120+abs(validity)%(720*3600-119)) * time.Second
	in = current(func(in *plan.Input) {
		in.Seed = seed
		in.RenewBefore = min(time.Duration(10+abs(renewBefore)%(720*3600))*time.Second, life*8/10)
		in.Held.Issued = now.Add(-time.Duration(age%(1440*3600))*time.Second - time.Duration(facts%1_000_000))
		for i := range in.Held.Tokens {
			in.Held.Tokens[i].Expires = in.Held.Issued.Add(life)
		}
	})
	for bit, mod := range []func(*plan.Input){
		deleting, denied, suspended, abandon, damaged, touched, otherScope, otherClient, otherKey, reissue, otherLook,
		retired("x", later, past), retired("y", later, soon.Add(time.Millisecond)), retired("z", later, time.Time{}), retired("v", past, past.Add(-1)),
		applied(now.Add(-1)), applied(now.Add(-time.Hour)), notBefore(soon.Add(1)), notBefore(past), expired,
		func(in *plan.Input) { in.KeyID = "" }, func(in *plan.Input) { in.Held.Tokens = nil },
	} {
		if facts>>bit&1 == 1 {
			mod(&in)
		}
	}
	switch facts >> 60 % 8 {
	case 5:
		missing(&in)
	case 6:
		foreign(&in)
	case 7:
		unreadable(&in)
	default:
	}
	return in, life, time.Duration(facts>>56%4) * time.Minute
}
