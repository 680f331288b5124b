package token

import (
	"errors"
	"fmt"
	"time"
)

// Kind sorts faults by what helps against them.
type Kind int

const (
	// KindUnavailable is a fault that passes: the service or the way to it failed in the middle of a call. Whether the
	// call took effect is not known.
	KindUnavailable Kind = iota
	// KindThrottled means that the account made too many calls; slower helps.
	KindThrottled
	// KindDenied means that the account may not use one of the topics; a person must change the permission or the topic.
	KindDenied
	// KindInvalid means that the service does not take the request as it is; a person must change what is asked for.
	KindInvalid
	// KindInstance means that no call on this connection can work: the key is wrong, the instance is not the account's,
	// the endpoint does not answer. Every user of the connection shares the fault.
	KindInstance
)

// String names the kind for logs and metrics.
func (k Kind) String() string {
	switch k {
	case KindThrottled:
		return "Throttled"
	case KindDenied:
		return "Denied"
	case KindInvalid:
		return "Invalid"
	case KindInstance:
		return "Instance"
	default:
		return "Unavailable"
	}
}

// CodeLeaseLost is the code of a call that was not made, because this process does not lead any more: whoever leads makes
// it. Its kind is KindUnavailable, but it is no failed attempt.
const CodeLeaseLost = "LeaseLost"

// Error is a fault of a token service. Its text holds no secret, whatever the service or the network said.
type Error struct {
	// Kind says what helps.
	Kind Kind
	// Op names the operation that failed: Apply, Query, Revoke, Identify or Dial.
	Op string
	// Code is the service's own word for the fault, or ours where no answer came; stable, fit for a status message.
	Code string
	// Hint says in a sentence what a person can do; empty where there is nothing to say beyond the kind.
	Hint string
	// RequestID lets the service's support find the call. It differs each time, so it goes to the log only.
	RequestID string
	// RetryAfter is how long the service asked to be left alone; zero where it did not.
	RetryAfter time.Duration
	// Err is the cause, free of secrets; may be nil.
	Err error
}

// Error says what failed and how, for a log line.
func (e *Error) Error() string {
	text := fmt.Sprintf("%s: %s (%s)", e.Op, e.Code, e.Kind)
	if e.RequestID != "" {
		text += ", request " + e.RequestID
	}
	if e.Err != nil {
		text += ": " + e.Err.Error()
	}
	return text
}

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Err }

// AsError returns the *Error in err's chain; any other error becomes one that may pass by itself.
func AsError(err error) *Error {
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	return &Error{Kind: KindUnavailable, Op: "Call", Code: "Unknown", Err: err}
}
