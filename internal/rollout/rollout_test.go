package rollout_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mqtt-token-operator/mqtt-token-operator/internal/rollout"
)

func noon() time.Time { return time.Date(2035, 5, 5, 12, 0, 0, 0, time.UTC) }

func TestDecide(t *testing.T) {
	at := func(minutes int) time.Time { return noon().Add(time.Duration(minutes) * time.Minute) }
	soon := noon().Add(5 * time.Second)
	// made a day ago, lets the grant restart it, and is whole
	workload := func(change func(*rollout.Target)) rollout.Target {
		t := rollout.Target{Found: true, Allowed: true, Rolls: true, Created: at(-24 * 60), Finished: true}
		change(&t)
		return t
	}
	as := func(*rollout.Target) {} // it is
	for sentence, tc := range map[string]struct {
		target rollout.Target
		issued time.Time
		first  bool
		want   rollout.Verdict
	}{
		"new tokens restart it":               {target: workload(as), issued: at(-1), want: rollout.Verdict{Restart: true, Next: soon}},
		"the first tokens do not":             {target: workload(as), issued: at(-1), first: true, want: rollout.Verdict{Done: true}},
		"tokens older than itself do not":     {target: workload(func(t *rollout.Target) { t.Created = at(-1) }), issued: at(-2), want: rollout.Verdict{Done: true}},
		"one that is missing holds up nobody": {issued: at(-1), want: rollout.Verdict{Done: true, Problem: rollout.Missing}},
		"nor does one that does not allow it": {
			target: workload(func(t *rollout.Target) { t.Allowed = false }), issued: at(-1), want: rollout.Verdict{Done: true, Problem: rollout.NotAllowed},
		},
		"nor does one whose pods are not replaced by that": {
			target: workload(func(t *rollout.Target) { t.Rolls = false }), issued: at(-1), want: rollout.Verdict{Done: true, Problem: rollout.NotRolling},
		},
		"it is restarted once for the same tokens": {
			target: workload(func(t *rollout.Target) { t.For, t.At = at(-1), at(-1) }), issued: at(-1), want: rollout.Verdict{Done: true},
		},
		"and waited for while its pods come up": {
			target: workload(func(t *rollout.Target) { t.For, t.At, t.Finished = at(-1), at(-1), false }), issued: at(-1), want: rollout.Verdict{Next: soon},
		},
		"but not as closely when they do not": {
			target: workload(func(t *rollout.Target) { t.For, t.At, t.Finished = at(-11), at(-11), false }), issued: at(-11), want: rollout.Verdict{Next: at(1)},
		},
		"a rollout that is not ours is not waited for": {
			target: workload(func(t *rollout.Target) { t.Created, t.Finished = at(-1), false }), issued: at(-2), want: rollout.Verdict{Done: true},
		},
		"not again within the floor": {
			target: workload(func(t *rollout.Target) { t.For, t.At = at(-4), at(-4) }), issued: at(-1), want: rollout.Verdict{Next: at(1)},
		},
		"but after it": {
			target: workload(func(t *rollout.Target) { t.For, t.At = at(-5), at(-5) }), issued: at(-1), want: rollout.Verdict{Restart: true, Next: soon},
		},
		"another grant's newer tokens were for it, too": {
			target: workload(func(t *rollout.Target) { t.For, t.At = at(-1), at(-1) }), issued: at(-2), want: rollout.Verdict{Done: true},
		},
	} {
		t.Run(sentence, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, rollout.Decide(tc.target, tc.issued, tc.first, noon())); diff != "" {
				t.Errorf("verdict (-want +got):\n%s", diff)
			}
		})
	}
}

// FuzzDecide carries the verdicts out until none is left, in any state of a workload.
func FuzzDecide(f *testing.F) {
	f.Add(int64(-86400), int64(-60), int64(-300), int64(-290), true)
	f.Add(int64(0), int64(0), int64(0), int64(0), false)
	f.Fuzz(func(t *testing.T, created, issued, restartedFor, restartedAt int64, finished bool) {
		const year = 365 * 86400
		at := func(seconds int64) time.Time { return noon().Add(time.Duration(seconds%year) * time.Second) }
		target := rollout.Target{
			Found: true, Allowed: true, Rolls: true, Created: at(created), For: at(restartedFor), At: at(-max(restartedAt, -restartedAt)), Finished: finished,
		}
		now, restarts := noon(), 0
		for range 10 {
			v := rollout.Decide(target, at(issued), false, now)
			switch {
			case v != rollout.Decide(target, at(issued), false, now):
				t.Fatal("two verdicts on the same")
			case v.Done && (v.Restart || !v.Next.IsZero()):
				t.Fatalf("done, and not done: %+v", v)
			case v.Done:
				if restarts > 1 {
					t.Fatalf("%d restarts", restarts)
				}
				return
			case !v.Next.After(now):
				t.Fatalf("look again at %s, at %s", v.Next, now)
			case v.Restart:
				if now.Sub(target.At) < rollout.Floor {
					t.Fatalf("restarted %s after the last time", now.Sub(target.At))
				}
				restarts++
				target.For, target.At = at(issued), now
			}
			now, target.Finished = v.Next, true
		}
		t.Fatal("it is never done")
	})
}
