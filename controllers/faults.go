package controllers

import (
	"fmt"

	"github.com/mqtt-token-operator/mqtt-token-operator/api/v1alpha1"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/token"
)

// problem is what keeps an object from being as its spec wants, in words for its owner. Its texts are stable: the same
// problem gives the same words each time.
type problem struct {
	reason  string
	message string
	// stalled says that only an edit of the object helps.
	stalled bool
	// attempt says that a call was made and failed, so that the next one waits its turn.
	attempt bool
	// silent says that no event is due: somebody else tells of it, or the owner did it.
	silent bool
	// cause is for the log; nil where the message says it all.
	cause error
}

// classify turns a fault of the service into the words of a condition.
func classify(fault *token.Error) problem {
	p := problem{attempt: true, cause: fault}
	switch fault.Kind {
	case token.KindThrottled:
		p.reason = v1alpha1.ReasonThrottled
	case token.KindDenied:
		p.reason = v1alpha1.ReasonTopicDenied
	case token.KindInvalid:
		p.reason, p.stalled = v1alpha1.ReasonRefused, true
	case token.KindInstance:
		p.reason = instanceReason(fault)
	case token.KindUnavailable:
		p.reason = v1alpha1.ReasonServiceUnavailable
	}
	hint := fault.Hint
	if hint == "" {
		hint = "the service did not answer as it should; the operator tries again"
	}
	p.message = fmt.Sprintf("%s: %s.", fault.Code, hint)
	return p
}

// instanceReason tells a way that is blocked from a door that stays shut: the codes without an answer are ours.
func instanceReason(fault *token.Error) string {
	if fault.RequestID == "" {
		return v1alpha1.ReasonUnreachable
	}
	return v1alpha1.ReasonCredentialRefused
}

// capitalized makes a sentence of a message that was written to follow another.
func capitalized(s string) string {
	if s == "" || s[0] < 'a' || s[0] > 'z' {
		return s
	}
	return string(s[0]-'a'+'A') + s[1:]
}
