package main

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

const later = writeGrace + time.Second

func noon() time.Time { return time.Date(2031, 3, 5, 12, 0, 0, 0, time.UTC) }

func TestWhatTheBookSaysOfATokenOnNoRecord(t *testing.T) {
	for sentence, tc := range map[string]struct {
		before func(*book)
		gone   time.Duration
		want   bool // whether it is a problem
	}{
		"a new token may be on its way":                     {gone: writeGrace},
		"a token that nobody ever wrote down is a problem":  {gone: later, want: true},
		"a token that was on record may be missed for once": {before: func(b *book) { b.record("a") }, gone: seenGrace},
		"a token that was on record must stay there":        {before: func(b *book) { b.record("a") }, gone: seenGrace + 1, want: true},
		"a death explains a token that nobody wrote down": {
			before: func(b *book) { b.died("killed", noon(), []string{"a"}) }, gone: later,
		},
		"a death before the token explains nothing": {
			before: func(b *book) { b.died("killed", noon().Add(-time.Second), []string{"a"}) }, gone: later, want: true,
		},
		"no death explains a token that was on record": {
			before: func(b *book) { b.record("a"); b.died("killed", noon(), []string{"a"}) }, gone: later, want: true,
		},
		"a token that is on record after a death was not lost": {
			before: func(b *book) { b.died("killed", noon(), []string{"a"}); b.record("a") }, gone: later, want: true,
		},
		"a lost reply explains one token": {before: func(b *book) { b.unread = 1 }, gone: later},
		"what we destroyed ourselves is no problem": {
			before: func(b *book) { b.record("a"); b.excuse("a") }, gone: later,
		},
	} {
		t.Run(sentence, func(t *testing.T) {
			b := newBook()
			b.notice(noon(), []string{"a"})
			if tc.before != nil {
				tc.before(b)
			}
			got := len(b.judge(time.Minute, []string{"a"}, nil)) > 0 || len(b.judge(time.Minute+tc.gone, []string{"a"}, nil)) > 0
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("a problem (-want +got):\n%s", diff)
			}
			if again := b.judge(time.Hour, []string{"a"}, map[string]bool{"a": true}); len(again) > 0 {
				t.Errorf("on record, it is a problem: %v", again)
			}
		})
	}
}

func TestALostReplyExplainsNoSecondToken(t *testing.T) {
	b := newBook()
	b.unread = 1
	alive := []string{"a", "b"}
	b.notice(noon(), alive)
	b.judge(0, alive, nil)
	var got []string
	for _, p := range b.judge(later, alive, nil) {
		got = append(got, p.id)
	}
	if diff := cmp.Diff([]string{"b"}, got); diff != "" {
		t.Errorf("problems (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"a"}, b.orphans(alive)); diff != "" {
		t.Errorf("orphans (-want +got):\n%s", diff)
	}
	if again := b.judge(2*later, alive, nil); len(again) > 0 {
		t.Errorf("it is told again: %v", again)
	}
}

func TestEndings(t *testing.T) {
	e := endings{open: map[string]*ending{}}
	type step struct {
		up       time.Duration
		deleting map[string]string
		want     int
	}
	for _, s := range []step{
		{up: 0, deleting: map[string]string{"u1": "a", "u2": "b"}},
		{up: 20 * time.Second, deleting: map[string]string{"u1": "a"}},
		{up: 31 * time.Second, deleting: map[string]string{"u1": "a"}, want: 1},
		{up: 40 * time.Second, deleting: map[string]string{"u1": "a"}},
		{up: 50 * time.Second},
	} {
		if got := e.follow(s.up, s.deleting, 30*time.Second); len(got) != s.want {
			t.Errorf("after %s: %d too late, want %d: %v", s.up, len(got), s.want, got)
		}
	}
	want := endings{open: map[string]*ending{}, longest: 50 * time.Second, slowest: "a", ended: 2}
	if diff := cmp.Diff(want, e, cmp.AllowUnexported(endings{}), cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestLeaks(t *testing.T) {
	const secret = "Zm9vYmFyYmF6cXV4Zm9vYmFyYmF6cXV4Zm9vYmFy="
	for sentence, tc := range map[string]struct {
		text string
		want bool
	}{
		"nothing":                   {},
		"an innocent line":          {text: `{"level":"info","msg":"Starting workers","worker count":8}`},
		"the whole":                 {text: "token " + secret, want: true},
		"a piece within other text": {text: `{"url":"https://h/?Token=` + secret[3:38] + `"}`, want: true},
		"a piece too short to say":  {text: secret[:10]},
	} {
		t.Run(sentence, func(t *testing.T) {
			l := newLeaks()
			l.add(secret)
			if diff := cmp.Diff(tc.want, l.in(tc.text)); diff != "" {
				t.Errorf("it holds a secret (-want +got):\n%s", diff)
			}
		})
	}
}
