package main

import (
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestAnEndIsNobodysFaultWhoCouldNotRenew(t *testing.T) {
	at := func(seconds int) time.Time { return noon().Add(time.Duration(seconds) * time.Second) }
	type look struct {
		renewal int // when the grant says that it is renewed; zero: it does not say
		now     int
		up      time.Duration
	}
	for sentence, tc := range map[string]struct {
		looks []look
		want  bool
	}{
		"a manager worked all the time": {looks: []look{{60, 0, 0}, {60, 60, 60 * time.Second}, {60, 90, 90 * time.Second}}},
		"none worked since it was due":  {looks: []look{{60, 59, 59 * time.Second}, {60, 90, 60 * time.Second}}, want: true},
		"one worked for too short":      {looks: []look{{60, 59, 20 * time.Second}, {60, 90, 29 * time.Second}}, want: true},
		"one worked for long enough":    {looks: []look{{60, 59, 20 * time.Second}, {60, 90, 30 * time.Second}}},
		"it was renewed, and due again": {looks: []look{{60, 60, 20 * time.Second}, {120, 100, 50 * time.Second}, {120, 130, 55 * time.Second}}, want: true},
		"it does not say when":          {looks: []look{{0, 60, 0}, {0, 90, 0}}},
	} {
		t.Run(sentence, func(t *testing.T) {
			var s standing
			for _, l := range tc.looks {
				var renewal *metav1.Time
				if l.renewal > 0 {
					renewal = &metav1.Time{Time: at(l.renewal)}
				}
				s.watchRenewal(renewal, at(l.now), l.up)
			}
			if got := s.hadNoChance(tc.looks[len(tc.looks)-1].up); got != tc.want {
				t.Errorf("got %v", got)
			}
		})
	}
}
