package controllers

import (
	"slices"
	"testing"
	"time"

	"github.com/mqtt-token-operator/mqtt-token-operator/internal/ledger"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/plan"
)

func TestWhichVerdictsAreCredible(t *testing.T) {
	now := time.Date(2031, 5, 17, 3, 4, 5, 0, time.UTC)
	const valid, invalid = true, false
	for sentence, tc := range map[string]struct {
		verdicts []bool
		age      time.Duration // of the last one
		want     bool
	}{
		"no verdict is no reason to doubt":         {nil, 0, true},
		"one token can be revoked behind our back": {[]bool{invalid}, 0, true},
		"so can two":                               {[]bool{invalid, invalid}, 0, true},
		"three of three are suspicious":            {[]bool{invalid, invalid, invalid}, 0, false},
		"three of six are credible":                {[]bool{valid, valid, valid, invalid, invalid, invalid}, 0, true},
		"four of seven are not":                    {[]bool{valid, valid, valid, invalid, invalid, invalid, invalid}, 0, false},
		"a day later nobody remembers":             {[]bool{invalid, invalid, invalid}, 25 * time.Hour, true},
		"later valid ones restore the trust":       {[]bool{invalid, invalid, invalid, valid, valid, valid}, 0, true},
		"only the latest count, and they are many": {append(make([]bool, 100), repeated(valid, 40)...), 0, true},
	} {
		t.Run(sentence, func(t *testing.T) {
			var v verdicts
			for i, each := range tc.verdicts {
				v = v.with(each, now.Add(time.Duration(i)*time.Second))
			}
			at := now.Add(time.Duration(len(tc.verdicts))*time.Second + tc.age)
			if got := v.areCredible(at); got != tc.want {
				t.Errorf("got %v, want %v", got, tc.want)
			}
			if len(v) > maxVerdicts {
				t.Errorf("%d verdicts are kept", len(v))
			}
		})
	}
}

func repeated(valid bool, n int) []bool {
	list := make([]bool, n)
	for i := range list {
		list[i] = valid
	}
	return list
}

// The decision says why a token must go, and the ledger keeps the word.
func TestTheLedgerKnowsEachCause(t *testing.T) {
	for _, cause := range []plan.Cause{
		plan.CauseHeld, plan.CauseReissued, plan.CauseDenied, plan.CauseNarrowed, plan.CauseCompromised, plan.CauseSurplus, plan.CauseDeleted,
	} {
		if !slices.Contains(ledger.Whys(), ledger.Why(cause)) {
			t.Errorf("%s is no word of the ledger", cause)
		}
	}
}
