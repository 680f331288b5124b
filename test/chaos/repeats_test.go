package main

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestWhichTokensWereRevokedWithoutNeed(t *testing.T) {
	at := func(seconds int) time.Time { return noon().Add(time.Duration(seconds) * time.Second) }
	once, twice, thrice := map[string]int{"a": 1}, map[string]int{"a": 2}, map[string]int{"a": 3}
	for sentence, tc := range map[string]struct {
		do   func(*repeats)
		last map[string]int // what is known at the end, a minute later
		want []string
	}{
		"once is right":            {do: func(r *repeats) { r.notice(at(0), once) }, last: once},
		"twice is a problem":       {do: func(r *repeats) { r.notice(at(0), once) }, last: twice, want: []string{"a"}},
		"twice within a look, too": {do: func(*repeats) {}, last: twice, want: []string{"a"}},
		"an interruption explains one later call alone": {
			do: func(r *repeats) { r.notice(at(0), once); r.interrupted(at(5)); r.notice(at(6), twice) }, last: thrice, want: []string{"a"},
		},
		"an interruption explains it": {do: func(r *repeats) { r.notice(at(0), once); r.interrupted(at(5)) }, last: twice},
		"an interruption before explains nothing": {
			do: func(r *repeats) { r.interrupted(at(0)); r.notice(at(5), once) }, last: twice, want: []string{"a"},
		},
		"an interruption that we noticed a little too early does": {
			do: func(r *repeats) { r.interrupted(at(0)); r.notice(at(0).Add(noticeGrace), once) }, last: twice,
		},
		"an interruption explains one call more": {
			do: func(r *repeats) { r.notice(at(0), once); r.interrupted(at(5)) }, last: thrice, want: []string{"a"},
		},
		"two explain two": {
			do: func(r *repeats) { r.notice(at(0), once); r.interrupted(at(5)); r.interrupted(at(9)) }, last: thrice,
		},
		"an interruption explains one for each token": {
			do:   func(r *repeats) { r.notice(at(0), map[string]int{"a": 1, "b": 1}); r.interrupted(at(5)) },
			last: map[string]int{"a": 2, "b": 2},
		},
		"a reply that nobody heard explains one": {do: func(r *repeats) { r.notice(at(0), once); r.lose(1) }, last: twice},
		"a reply that nobody heard explains one of two": {
			do:   func(r *repeats) { r.notice(at(0), map[string]int{"a": 1, "b": 1}); r.lose(1) },
			last: map[string]int{"a": 2, "b": 2}, want: []string{"b"},
		},
	} {
		t.Run(sentence, func(t *testing.T) {
			r := newRepeats()
			tc.do(r)
			r.notice(at(60), tc.last)
			if diff := cmp.Diff(tc.want, r.judge()); diff != "" {
				t.Errorf("problems (-want +got):\n%s", diff)
			}
			r.notice(at(61), tc.last)
			if again := r.judge(); len(again) > 0 {
				t.Errorf("it is told again: %v", again)
			}
		})
	}
}
