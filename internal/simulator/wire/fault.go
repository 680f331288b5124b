package wire

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/mqtt-token-operator/mqtt-token-operator/internal/simulator/state"
)

// FaultKind says what goes wrong with a call.
type FaultKind string

// The kinds of fault.
const (
	// FaultError answers an error in the documented form; the call has no effect.
	FaultError FaultKind = "Error"
	// FaultOutage closes the connection before an answer; the call has no effect.
	FaultOutage FaultKind = "Outage"
	// FaultGarbage answers 200 with a body that is not JSON; the call has no effect.
	FaultGarbage FaultKind = "Garbage"
	// FaultOddError answers an error whose Code is a number; the call has no effect.
	FaultOddError FaultKind = "OddError"
	// FaultReset carries the call out and breaks off in the middle of the answer.
	FaultReset FaultKind = "Reset"
	// FaultDropReply carries the call out and closes the connection instead of answering.
	FaultDropReply FaultKind = "DropReply"
)

// Fault is something that goes wrong with calls.
type Fault struct {
	// Kind says what.
	Kind FaultKind `json:"kind"`
	// Operation restricts the fault to one operation; empty means all.
	Operation state.Operation `json:"operation,omitempty"`
	// Rate is the share of calls that are hit, up to 1; zero means every call.
	Rate float64 `json:"rate,omitempty"`
	// Times is how many calls are hit before the fault is gone; zero means that it stays.
	Times int `json:"times,omitempty"`
	// Status, Code and Message are the answer of an Error; by default 503 ServiceUnavailable.
	Status  int    `json:"status,omitempty"`
	Code    string `json:"code,omitempty"`
	Message string `json:"message,omitempty"`
}

// Faults is everything that goes wrong. Of the faults that fit a call, the first one hits.
type Faults struct {
	// Latency delays every answer, in real time.
	Latency Duration `json:"latency,omitempty"`
	// ClockSkew puts the service's clock ahead of the caller's, or behind if negative.
	ClockSkew Duration `json:"clockSkew,omitempty"`
	Calls     []Fault  `json:"calls,omitempty"`
}

// Validate refuses faults that could never hit.
func (f Faults) Validate() error {
	if f.Latency < 0 {
		return fmt.Errorf("latency cannot be negative, as %s is", time.Duration(f.Latency))
	}
	for i, fault := range f.Calls {
		if err := fault.validate(); err != nil {
			return fmt.Errorf("fault %d: %w", i, err)
		}
	}
	return nil
}

func (f Fault) validate() error {
	switch f.Kind {
	case FaultError, FaultOutage, FaultGarbage, FaultOddError, FaultReset, FaultDropReply:
	default:
		return fmt.Errorf("unknown kind %q", f.Kind)
	}
	switch f.Operation {
	case "", state.Apply, state.Query, state.Revoke, state.AssumeRole, state.AssumeRoleWithOIDC, state.GetCallerIdentity, state.Metadata:
	default:
		return fmt.Errorf("unknown operation %q", f.Operation)
	}
	if f.Rate < 0 || f.Rate > 1 {
		return fmt.Errorf("rate must be between 0 and 1, not %v", f.Rate)
	}
	if f.Times < 0 {
		return fmt.Errorf("times cannot be negative, as %d is", f.Times)
	}
	if f.Status != 0 && (f.Status < 400 || f.Status > 599) {
		return fmt.Errorf("status must be between 400 and 599, not %d", f.Status)
	}
	return nil
}

// Duration is a time.Duration that JSON spells like "1.5s".
type Duration time.Duration

// MarshalJSON spells the duration.
func (d Duration) MarshalJSON() ([]byte, error) { return json.Marshal(time.Duration(d).String()) }

// UnmarshalJSON reads what MarshalJSON writes.
func (d *Duration) UnmarshalJSON(text []byte) error {
	var spelled string
	if err := json.Unmarshal(text, &spelled); err != nil {
		return fmt.Errorf("a duration is a string like %q: %w", "1.5s", err)
	}
	parsed, err := time.ParseDuration(spelled)
	if err != nil {
		return err
	}
	*d = Duration(parsed)
	return nil
}

// hits reports whether the fault hits a call, given a random number in [0,1).
func (f Fault) hits(op state.Operation, random float64) bool {
	return (f.Operation == "" || f.Operation == op) && (f.Rate == 0 || random < f.Rate)
}
