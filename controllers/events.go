package controllers

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/tools/events"

	"github.com/mqtt-token-operator/mqtt-token-operator/api/v1alpha1"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/plan"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/rollout"
)

// transition is a change worth telling, once. Its note holds no times, so that the API server can count repeated ones.
type transition struct {
	kind   string
	reason string
	action string
	note   string
	// related is another object that it is about: transitions of two are two, and counted apart.
	related *corev1.ObjectReference
}

func tell(recorder events.EventRecorder, about runtime.Object, t *transition) {
	switch {
	case t == nil:
	case t.related == nil:
		recorder.Eventf(about, nil, t.kind, t.reason, t.action, "%s", t.note)
	default:
		recorder.Eventf(about, t.related, t.kind, t.reason, t.action, "%s", t.note)
	}
}

// issueEvent tells why tokens were issued; clamped says that an old one ends before its overlap does.
func issueEvent(why plan.Reason, clamped bool) *transition {
	e := &transition{kind: corev1.EventTypeNormal, action: "Issue"}
	switch why {
	case plan.ReasonDue:
		e.reason, e.note = v1alpha1.EventRenewed, "Renewed the tokens before their expiry."
	case plan.ReasonExpired:
		e.kind, e.reason = corev1.EventTypeWarning, v1alpha1.EventRenewed
		e.note = "Renewed the tokens after they had expired; clients were without access."
	case plan.ReasonScopeChanged:
		e.reason, e.note = v1alpha1.EventScopeChanged, "Issued tokens for the changed grant; the old ones end with their overlap or their expiry."
		if clamped {
			e.note = "Issued tokens for the changed grant; the old ones expire before spec.overlap is over, so it is cut short."
		}
	case plan.ReasonReissue:
		e.reason, e.note = v1alpha1.EventReissued, "Reissued the tokens because the annotation asks for it."
	case plan.ReasonKeyRotated:
		e.reason, e.note = v1alpha1.EventReissued, "Reissued the tokens because the instance's AccessKey changed."
	case plan.ReasonInvalid:
		e.reason, e.note = v1alpha1.EventReissued, "Reissued the tokens because the service called them invalid."
	case plan.ReasonDamaged:
		e.reason, e.note = v1alpha1.EventReissued, "Reissued the tokens because somebody changed those in the Secret."
	case plan.ReasonFuture:
		e.reason, e.note = v1alpha1.EventReissued, "Reissued the tokens because they were issued in the future of this clock."
	default:
		e.reason, e.note = v1alpha1.EventIssued, "Issued tokens into the Secret."
	}
	return e
}

func restartedEvent(namespace string, target v1alpha1.RolloutTarget) *transition {
	return &transition{
		kind: corev1.EventTypeNormal, reason: v1alpha1.EventRestarted, action: "Restart", related: workloadReference(namespace, target),
		note: fmt.Sprintf("Restarted %s %s because the tokens changed.", target.Kind, target.Name),
	}
}

func notRestartedEvent(namespace string, target v1alpha1.RolloutTarget, why rollout.Problem) *transition {
	notes := map[rollout.Problem]string{
		rollout.Missing:    "it does not exist. Correct spec.rolloutRestartTargets.",
		rollout.NotAllowed: "it does not allow that. Annotate it with " + v1alpha1.AllowRestartAnnotation + "=<name of the grant>.",
		rollout.NotRolling: "its pods are not all replaced when its template changes: it is paused, or its update strategy is OnDelete or has a partition. Restart it yourself before its tokens expire.",
		rollout.Forbidden:  "the API server refused: a policy, or missing permissions. Restart it yourself before its tokens expire.",
	}
	return &transition{
		kind: corev1.EventTypeWarning, reason: v1alpha1.EventNotRestarted, action: "Restart", related: workloadReference(namespace, target),
		note: fmt.Sprintf("%s %s is not restarted when the tokens change: %s", target.Kind, target.Name, notes[why]),
	}
}

func workloadReference(namespace string, target v1alpha1.RolloutTarget) *corev1.ObjectReference {
	return &corev1.ObjectReference{APIVersion: "apps/v1", Kind: string(target.Kind), Namespace: namespace, Name: target.Name}
}

func repairedEvent() *transition {
	return &transition{kind: corev1.EventTypeNormal, reason: v1alpha1.EventRepaired, action: "Write", note: "Brought the Secret up to date with the tokens it holds."}
}

func withdrawnEvent(why plan.Reason) *transition {
	e := &transition{kind: corev1.EventTypeWarning, reason: v1alpha1.EventWithdrawn, action: "Withdraw"}
	switch why {
	case plan.ReasonHeld:
		e.note = "Took the tokens out of the Secret and has them revoked now: the grant is held."
	case plan.ReasonDenied:
		e.note = "Took the tokens out of the Secret and has them revoked after the overlap: the access rules do not allow the grant any more."
	default:
		e.note = "The Secret was deleted while nothing may be issued: its tokens are revoked after the overlap."
	}
	return e
}

func handedOverEvent(count int) *transition {
	return &transition{
		kind: corev1.EventTypeWarning, reason: v1alpha1.EventHandedOver, action: "Revoke",
		note: fmt.Sprintf("The service did not take back %d token(s) in time; the ledger goes on revoking them until they expire.", count),
	}
}

func adoptedEvent() *transition {
	return &transition{kind: corev1.EventTypeNormal, reason: v1alpha1.EventAdopted, action: "Adopt", note: "Took over the Secret of another grant, with the tokens in it."}
}

func tokenInvalidEvent() *transition {
	return &transition{
		kind: corev1.EventTypeWarning, reason: v1alpha1.EventTokenInvalid, action: "Verify",
		note: "The service calls a token in the Secret invalid although nobody here revoked it.",
	}
}

func revokedEvent(count int) *transition {
	if count == 0 {
		return nil
	}
	return &transition{kind: corev1.EventTypeNormal, reason: v1alpha1.EventRevoked, action: "Revoke", note: fmt.Sprintf("Revoked %d token(s) at the service.", count)}
}

// problemEvent tells of a problem when it is new.
func problemEvent(p problem) *transition {
	return &transition{kind: corev1.EventTypeWarning, reason: p.reason, action: "Reconcile", note: p.message}
}

func connectedEvent() *transition {
	return &transition{kind: corev1.EventTypeNormal, reason: v1alpha1.ReasonConnected, action: "Connect", note: "The service takes the instance's credential."}
}

func recoveredEvent() *transition {
	return &transition{kind: corev1.EventTypeNormal, reason: v1alpha1.EventRecovered, action: "Connect", note: "The service takes the instance's credential again."}
}
