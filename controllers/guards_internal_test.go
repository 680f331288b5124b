package controllers

import (
	"testing"
	"time"
)

func TestWhatIsAMassRevocation(t *testing.T) {
	for sentence, tc := range map[string]struct {
		count massCount
		want  bool
	}{
		"nobody is nobody":                     {massCount{0, 0}, false},
		"twenty may go, whatever the fleet is": {massCount{20, 20}, false},
		"the twenty-first of few may not":      {massCount{21, 21}, true},
		"a tenth of many may go":               {massCount{1000, 10_000}, false},
		"more than a tenth of many may not":    {massCount{1001, 10_000}, true},
		"twenty count more than a tenth":       {massCount{20, 150}, false},
	} {
		t.Run(sentence, func(t *testing.T) {
			if got := tc.count.isMass(); got != tc.want {
				t.Errorf("%d of %d: %v, want %v", tc.count.denied, tc.count.total, got, tc.want)
			}
		})
	}
}

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
