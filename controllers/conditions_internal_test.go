package controllers

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mqtt-token-operator/mqtt-token-operator/api/v1alpha1"
)

func TestSummarize(t *testing.T) {
	const issued = v1alpha1.ReasonIssued
	waits, stalls := &problem{reason: "Waits"}, &problem{reason: "Stalls", stalled: true}
	for sentence, tc := range map[string]struct {
		ready bool
		p     *problem
		want  map[string]string // reasons of what is True; Ready's in any case
	}{
		"ready":                            {ready: true, want: map[string]string{"Ready": issued}},
		"ready, though something waits":    {ready: true, p: waits, want: map[string]string{"Ready": issued}},
		"ready, though the owner must act": {ready: true, p: stalls, want: map[string]string{"Ready": issued, "Stalled": "Stalls"}},
		"waiting":                          {p: waits, want: map[string]string{"Ready": "Waits", "Reconciling": "Waits"}},
		"the owner must act":               {p: stalls, want: map[string]string{"Ready": "Stalls", "Stalled": "Stalls"}},
		"at it":                            {want: map[string]string{"Ready": v1alpha1.ReasonProgressing, "Reconciling": v1alpha1.ReasonProgressing}},
	} {
		t.Run(sentence, func(t *testing.T) {
			for _, from := range []*problem{nil, waits, stalls} {
				set := conditionSet{now: guardStart()}
				set.summarize(from == nil, issued, "", from)
				set.summarize(tc.ready, issued, "", tc.p)
				got := map[string]string{}
				for _, c := range set.list {
					got[c.Type] = c.Reason
				}
				if diff := cmp.Diff(tc.want, got); diff != "" {
					t.Errorf("(-want +got):\n%s", diff)
				}
				before := append([]metav1.Condition{}, set.list...)
				set.now = set.now.Add(time.Hour)
				set.summarize(tc.ready, issued, "", tc.p)
				if diff := cmp.Diff(before, set.list); diff != "" {
					t.Errorf("an hour later, with nothing new (-before +after):\n%s", diff)
				}
			}
		})
	}
}
