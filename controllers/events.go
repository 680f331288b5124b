package controllers

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/tools/events"

	"github.com/mqtt-token-operator/mqtt-token-operator/api/v1alpha1"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/plan"
)

// transition is a change worth telling, once. Its note holds no times, so that the API server can count repeated ones.
type transition struct {
	kind   string
	reason string
	action string
	note   string
}

func tell(recorder events.EventRecorder, about runtime.Object, t *transition) {
	if t != nil {
		recorder.Eventf(about, nil, t.kind, t.reason, t.action, "%s", t.note)
	}
}

func issueEvent(why plan.Reason) *transition {
	e := &transition{kind: corev1.EventTypeNormal, action: "Issue"}
	switch why {
	case plan.ReasonDue:
		e.reason, e.note = v1alpha1.EventRenewed, "Renewed the tokens before their expiry."
	case plan.ReasonExpired:
		e.kind, e.reason = corev1.EventTypeWarning, v1alpha1.EventRenewed
		e.note = "Renewed the tokens after they had expired; clients were without access."
	case plan.ReasonScopeChanged:
		e.reason, e.note = v1alpha1.EventScopeChanged, "Issued tokens for the changed grant; the old ones end with their overlap or their expiry."
	case plan.ReasonReissue:
		e.reason, e.note = v1alpha1.EventReissued, "Reissued the tokens because the annotation asks for it."
	case plan.ReasonKeyRotated:
		e.reason, e.note = v1alpha1.EventReissued, "Reissued the tokens because the instance's AccessKey changed."
	case plan.ReasonDamaged:
		e.reason, e.note = v1alpha1.EventReissued, "Reissued the tokens because somebody changed those in the Secret."
	case plan.ReasonFuture:
		e.reason, e.note = v1alpha1.EventReissued, "Reissued the tokens because they were issued in the future of this clock."
	default:
		e.reason, e.note = v1alpha1.EventIssued, "Issued tokens into the Secret."
	}
	return e
}

func repairedEvent() *transition {
	return &transition{corev1.EventTypeNormal, v1alpha1.EventRepaired, "Write", "Brought the Secret up to date with the tokens it holds."}
}

func revokedEvent(count int) *transition {
	if count == 0 {
		return nil
	}
	return &transition{corev1.EventTypeNormal, v1alpha1.EventRevoked, "Revoke", fmt.Sprintf("Revoked %d token(s) at the service.", count)}
}

// problemEvent tells of a problem when it is new.
func problemEvent(p problem) *transition {
	return &transition{corev1.EventTypeWarning, p.reason, "Reconcile", p.message}
}

func connectedEvent() *transition {
	return &transition{corev1.EventTypeNormal, v1alpha1.ReasonConnected, "Connect", "The service takes the instance's credential."}
}

func recoveredEvent() *transition {
	return &transition{corev1.EventTypeNormal, v1alpha1.EventRecovered, "Connect", "The service takes the instance's credential again."}
}
