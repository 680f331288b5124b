package main

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mqtt-token-operator/mqtt-token-operator/internal/killpoint"
)

func plan(seed, lane uint64) []fault {
	return schedule(seed, lane, workKinds(), time.Second, 4*time.Second)
}

func TestTheScheduleIsAFunctionOfItsSeed(t *testing.T) {
	for sentence, tc := range map[string]struct {
		seed, lane uint64
		want       bool
	}{
		"the same seed gives the same faults": {seed: 7, lane: 1, want: true},
		"another seed gives others":           {seed: 8, lane: 1},
		"another lane gives others":           {seed: 7, lane: 2},
	} {
		t.Run(sentence, func(t *testing.T) {
			same := cmp.Equal(plan(7, 1), plan(tc.seed, tc.lane), cmp.AllowUnexported(fault{}))
			if diff := cmp.Diff(tc.want, same); diff != "" {
				t.Errorf("the same (-want +got):\n%s", diff)
			}
		})
	}
}

func TestEachRoundHasEachFaultOnce(t *testing.T) {
	faults := plan(7, 1)
	for round := range 3 {
		var got []kind
		for _, f := range faults[round*len(workKinds()) : (round+1)*len(workKinds())] {
			got = append(got, f.kind)
			if f.pause < time.Second || f.pause > 4*time.Second {
				t.Errorf("it waits for %s", f.pause)
			}
		}
		want := slices.Sorted(slices.Values(workKinds()))
		if diff := cmp.Diff(want, slices.Sorted(slices.Values(got))); diff != "" {
			t.Errorf("round %d (-want +got):\n%s", round, diff)
		}
	}
}

func TestDiceStayInTheirBounds(t *testing.T) {
	for _, f := range plan(7, 1) {
		if d := f.between(0, time.Second, 3*time.Second); d < time.Second || d > 3*time.Second {
			t.Errorf("%s is not between 1s and 3s", d)
		}
		if n := f.among(1, 5); n < 0 || n > 4 {
			t.Errorf("%d is not below 5", n)
		}
	}
}

func TestOnly(t *testing.T) {
	for sentence, tc := range map[string]struct {
		wanted []string
		want   []kind
	}{
		"no wish leaves all":        {want: processKinds()},
		"a wish leaves it alone":    {wanted: []string{string(killLeader)}, want: []kind{killLeader}},
		"a wish for none of a lane": {wanted: []string{string(outage)}, want: []kind{}},
	} {
		t.Run(sentence, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, only(processKinds(), tc.wanted)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestEachRoundBeginsWithTheKillPoints(t *testing.T) {
	faults := schedule(7, processLane, processKinds(), time.Second, 4*time.Second)
	for round := range 3 {
		var first []kind
		for _, f := range faults[round*len(processKinds()):][:len(killpoint.Points())] {
			first = append(first, f.kind)
		}
		want := []kind{killAfterApply, killAfterLedger, killAfterRevoke, killAfterSecret, killAfterStatus, killBeforeFinalizer}
		if diff := cmp.Diff(want, slices.Sorted(slices.Values(first))); diff != "" {
			t.Errorf("round %d (-want +got):\n%s", round, diff)
		}
	}
}
