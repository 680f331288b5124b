package controllers

import (
	"fmt"
	"strings"
	"time"

	"github.com/mqtt-token-operator/mqtt-token-operator/api/v1alpha1"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/desired"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/plan"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/policy"
)

// whyNotIssue is what stands in the way of applying for tokens; nil if nothing does. It costs no call.
func (seen observation) whyNotIssue() *problem {
	if seen.terminating {
		return &problem{reason: v1alpha1.ReasonProgressing, message: "The namespace is being deleted: nothing is applied for."}
	}
	if seen.link == nil || seen.layout == nil {
		return seen.instanceProblem()
	}
	now := seen.input.Now
	if seen.secret.immutable && !seen.secret.going {
		return seen.immutableProblem()
	}
	if err := seen.layout.Check(seen.input.Wanted, now); err != nil {
		return templateProblem(err)
	}
	return nil
}

// immutableProblem asks a person: deleting the Secret to make it anew would leave clients without one if the new one were
// refused.
func (seen observation) immutableProblem() *problem {
	return &problem{
		reason: v1alpha1.ReasonSecretUnwritable, stalled: true,
		message: fmt.Sprintf("Secret %q was made immutable, so no new token can be written to it. Delete it; it is made anew at once.", desired.SecretName(seen.grant)),
	}
}

// holdProblem says what the hold annotation does; who put it there knows why.
func (seen observation) holdProblem() *problem {
	if !seen.input.OnHold {
		return nil
	}
	return &problem{
		reason: v1alpha1.ReasonHeld, silent: true,
		message: fmt.Sprintf("The client is cut off: its tokens are revoked, and none are issued. Remove the annotation %s to let it back.", v1alpha1.HoldAnnotation),
	}
}

// shortValidityProblem warns of renewals that come too late for mounted files.
func (seen observation) shortValidityProblem() *problem {
	if seen.specErr != nil || !plan.IsShort(seen.spec.Validity, seen.spec.RenewBefore) {
		return nil
	}
	return &problem{
		reason:  v1alpha1.ReasonShortValidity,
		message: "Tokens are renewed so late that a client which reads mounted files may not have the new ones in time: the kubelet takes up to 90 s. Raise spec.validity or spec.renewBefore.",
	}
}

// rolloutsOffProblem warns of workloads that nobody restarts.
func (seen observation) rolloutsOffProblem() *problem {
	if seen.rolloutsOn || len(seen.grant.Spec.RolloutRestartTargets) == 0 {
		return nil
	}
	return &problem{
		reason:  v1alpha1.ReasonRolloutRestartsOff,
		message: "The operator was installed without --rollout-restarts, so it restarts none of spec.rolloutRestartTargets when the tokens change. Restart them yourself before the tokens expire, or have the platform team turn it on.",
	}
}

func backlogProblem() *problem {
	return &problem{
		reason: v1alpha1.ReasonRevocationBacklog, attempt: true,
		message: "So many of this grant's tokens wait to be revoked that no more are issued. It goes on by itself; stop reissuing.",
	}
}

func ledgerProblem(err error) *problem {
	return &problem{
		reason: v1alpha1.ReasonSecretUnwritable, attempt: true, cause: err,
		message: "The ledger of tokens to revoke cannot be written, so none is taken off the Secret; the manager's log has the API server's words.",
	}
}

func templateProblem(err error) *problem {
	return &problem{
		reason: v1alpha1.ReasonTemplateInvalid, stalled: true, cause: err,
		message: fmt.Sprintf("The Secret cannot be rendered: %s.", err),
	}
}

// instanceProblem says that the instance cannot be used; what is wrong with it, its own conditions tell those who may
// read them.
func (seen observation) instanceProblem() *problem {
	key := desired.InstanceKey(seen.grant)
	if seen.instance == nil || seen.isStranger() {
		return &problem{
			reason: v1alpha1.ReasonInstanceNotReady, silent: true,
			message: fmt.Sprintf("MqttInstance %s does not exist, or does not serve this namespace: correct spec.instanceRef, or ask the platform team for an access rule.", key),
		}
	}
	return &problem{
		reason: v1alpha1.ReasonInstanceNotReady, silent: true,
		message: fmt.Sprintf("MqttInstance %s is not ready; its conditions tell why. This grant goes on by itself when it is.", key),
	}
}

// worded is the problem as the grant's owner should read it: one of a grant in deletion, or of one whose tokens have
// expired, says so first.
func (seen observation) worded(out outcome) *problem {
	expires := out.secret.held().Expires()
	switch {
	case seen.input.Deleting:
		return revokingProblem(out.problem)
	case out.problem != nil && wantsTokens(out.decision) && out.secret.state == plan.SecretOurs && !expires.IsZero() && !expires.After(seen.input.Now):
		return expiredProblem(*out.problem)
	}
	return out.problem
}

// wantsTokens tells a grant that cannot be renewed from one that is not meant to be.
func wantsTokens(d plan.Decision) bool {
	return d.Verb == plan.Apply || d.Reason == plan.ReasonBackoff || d.Reason == plan.ReasonUnreadable
}

func expiredProblem(p problem) *problem {
	p.message = "The tokens expired before they could be renewed. " + p.message
	p.reason, p.silent = v1alpha1.ReasonExpired, false
	return &p
}

func revokingProblem(p *problem) *problem {
	if p == nil {
		return &problem{reason: v1alpha1.ReasonRevoking, silent: true, message: "The grant is being deleted and its tokens are being revoked."}
	}
	revoking := *p
	revoking.reason, revoking.stalled = v1alpha1.ReasonRevoking, false
	revoking.message = "The grant is being deleted; its tokens cannot be revoked yet. " + p.message
	return &revoking
}

// specProblem says what in the spec cannot be understood.
func (seen observation) specProblem() *problem {
	return &problem{reason: v1alpha1.ReasonInvalidSpec, stalled: true, message: fmt.Sprintf("The spec cannot be understood: %s.", seen.specErr)}
}

// whyWaiting words a decision to wait.
func (seen observation) whyWaiting(decision plan.Decision) *problem {
	switch decision.Reason {
	case reasonInvalidSpec:
		return seen.specProblem()
	case plan.ReasonDenied:
		return seen.deniedProblem()
	case plan.ReasonHeld:
		return seen.holdProblem()
	case plan.ReasonSuspended:
		return &problem{reason: v1alpha1.ReasonSuspended, silent: true, message: "spec.suspend is true: no tokens are applied for."}
	case plan.ReasonForeign:
		return &problem{
			reason: v1alpha1.ReasonSecretConflict, stalled: true,
			message: fmt.Sprintf("Secret %q exists and is not this grant's; it is left alone. Delete it, or set spec.secret.name in a new grant.", desired.SecretName(seen.grant)),
		}
	case plan.ReasonUnreadable:
		return &problem{
			reason: v1alpha1.ReasonSecretUnwritable, attempt: true, cause: seen.secret.err,
			message: fmt.Sprintf("Secret %q cannot be read, so nothing is applied for; the manager's log has the API server's words.", desired.SecretName(seen.grant)),
		}
	case plan.ReasonBackoff:
		if failure := seen.grant.Status.LastFailure; failure.Reason != "" {
			return &problem{reason: failure.Reason, message: failure.Message, stalled: failure.Reason == v1alpha1.ReasonRefused}
		}
	default:
	}
	return nil
}

// isStranger reports whether the grant names an MqttInstance of another namespace that never served it: whether there is
// one is none of its owner's business.
func (seen observation) isStranger() bool {
	return seen.instance != nil && seen.instance.Namespace != seen.grant.Namespace &&
		len(seen.violations) > 0 && seen.violations[0].Reason == policy.NamespaceNotAllowed &&
		seen.grant.Status.InstanceID != seen.instance.Spec.InstanceID
}

func (seen observation) deniedProblem() *problem {
	switch {
	case seen.isStranger():
		return seen.instanceProblem()
	case len(seen.violations) == 0:
		return seen.conflictProblem()
	}
	return violationProblem(seen.violations)
}

// violationProblem names everything that the access rules do not allow, up to a length that a person reads.
func violationProblem(violations []policy.Violation) *problem {
	const shown = 3
	var sentences []string
	for i, v := range violations {
		if i == shown {
			sentences = append(sentences, fmt.Sprintf("And %d more.", len(violations)-shown))
			break
		}
		sentences = append(sentences, capitalized(v.Message)+".")
	}
	return &problem{reason: policyReason(violations[0].Reason), message: strings.Join(sentences, " ")}
}

func policyReason(reason policy.Reason) string {
	switch reason {
	case policy.NamespaceNotAllowed:
		return v1alpha1.ReasonNamespaceNotAllowed
	case policy.ClientNotAllowed:
		return v1alpha1.ReasonClientNotAllowed
	case policy.ValidityTooLong:
		return v1alpha1.ReasonValidityTooLong
	case policy.TopicNotAllowed:
	}
	return v1alpha1.ReasonTopicNotAllowed
}

// pause is how long until a moment, at least a second: times on record are whole seconds.
func pause(until, now time.Time) time.Duration { return max(time.Second, until.Sub(now)) }
