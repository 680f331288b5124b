package controllers

import (
	"time"

	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mqtt-token-operator/mqtt-token-operator/api/v1alpha1"
)

// conditionSet is the conditions of one object while a report is written. All conditions of the project are set here.
type conditionSet struct {
	list       []metav1.Condition
	generation int64
	now        time.Time
}

func (s *conditionSet) set(kind string, status metav1.ConditionStatus, reason, message string) {
	apimeta.SetStatusCondition(&s.list, metav1.Condition{
		Type: kind, Status: status, Reason: reason, Message: message,
		ObservedGeneration: s.generation, LastTransitionTime: metav1.NewTime(s.now.Truncate(time.Second)),
	})
}

// warn sets a condition that is there only while there is something to say.
func (s *conditionSet) warn(kind string, p *problem) {
	if p == nil {
		s.remove(kind)
		return
	}
	s.set(kind, metav1.ConditionTrue, p.reason, p.message)
}

func (s *conditionSet) remove(kind string) { apimeta.RemoveStatusCondition(&s.list, kind) }

// summarize sets Ready, Reconciling and Stalled, which follow from two questions: is the object as its spec wants, and
// what keeps it from that? Reconciling and Stalled are there only while they are True, as kstatus wants.
func (s *conditionSet) summarize(ready bool, readyReason, readyMessage string, p *problem) {
	switch {
	case ready:
		s.set(v1alpha1.ReadyCondition, metav1.ConditionTrue, readyReason, readyMessage)
	case p != nil:
		s.set(v1alpha1.ReadyCondition, metav1.ConditionFalse, p.reason, p.message)
	default:
		p = &problem{reason: v1alpha1.ReasonProgressing, message: "The operator is at it."}
		s.set(v1alpha1.ReadyCondition, metav1.ConditionFalse, p.reason, p.message)
	}
	// What stays True keeps the time since when: else every look at a grant that waits would rewrite it.
	stalled, reconciling := p, p
	if ready || p.stalled {
		reconciling = nil
	}
	if p == nil || !p.stalled {
		stalled = nil
	}
	s.warn(v1alpha1.StalledCondition, stalled)
	s.warn(v1alpha1.ReconcilingCondition, reconciling)
}
