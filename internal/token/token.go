// Package token is the operator's own vocabulary for what a token service does: scopes, tokens, the service itself
// and its faults. It knows no vendor and no wire.
package token

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"unique"

	"github.com/mqtt-token-operator/mqtt-token-operator/internal/topic"
)

// MaxTopics is how many topics one token can carry. Source: the service's ApplyToken page
// (https://help.aliyun.com/document_detail/54276.html).
const MaxTopics = 100

// Type says what the bearer of a token may do on its topics. A client presents at most one token of each type.
type Type string

// The three types of token.
const (
	Publish          Type = "Publish"
	Subscribe        Type = "Subscribe"
	PublishSubscribe Type = "PublishSubscribe"
)

// Scope is what one token allows: one type on a sorted list of distinct topic filters. Make it with NewScope.
type Scope struct {
	Type   Type
	Topics []topic.Filter
}

// NewScope returns a scope with the topics sorted and exact duplicates dropped. It fails on no topics, on more than
// MaxTopics and on an unknown type.
func NewScope(kind Type, topics ...topic.Filter) (Scope, error) {
	switch kind {
	case Publish, Subscribe, PublishSubscribe:
	default:
		return Scope{}, fmt.Errorf("unknown token type %q", kind)
	}
	sorted := slices.Clone(topics)
	slices.SortFunc(sorted, func(a, b topic.Filter) int { return strings.Compare(a.String(), b.String()) })
	sorted = slices.Compact(sorted)
	if len(sorted) == 0 || len(sorted) > MaxTopics {
		return Scope{}, fmt.Errorf("a token carries 1 to %d topics, not %d", MaxTopics, len(sorted))
	}
	if sorted[0] == (topic.Filter{}) {
		return Scope{}, fmt.Errorf("a scope cannot hold the zero filter")
	}
	return Scope{Type: kind, Topics: sorted}, nil
}

// Allows reports whether the scope allows an action on every topic that the filter matches, because one of its own
// filters covers it.
func (s Scope) Allows(action Action, filter topic.Filter) bool {
	if !s.Type.Includes(action) {
		return false
	}
	return slices.ContainsFunc(s.Topics, func(f topic.Filter) bool { return f.Covers(filter) })
}

// Action is what a client does with a topic.
type Action string

// The two actions.
const (
	ActionPublish   Action = "Publish"
	ActionSubscribe Action = "Subscribe"
)

// Permission is one topic filter and what is wanted with it.
type Permission struct {
	Filter  topic.Filter
	Actions []Action
}

// Actions lists what a type allows.
func (t Type) Actions() []Action {
	switch t {
	case Publish:
		return []Action{ActionPublish}
	case Subscribe:
		return []Action{ActionSubscribe}
	case PublishSubscribe:
		return []Action{ActionPublish, ActionSubscribe}
	default:
		return nil
	}
}

// Includes reports whether the type allows the action.
func (t Type) Includes(action Action) bool { return slices.Contains(t.Actions(), action) }

// ScopeID identifies a set of scopes: equal scopes, equal id. The prefix is the version of the rule that made it, so
// that a later version can tell "made by an older rule" from "asks for something else".
func ScopeID(scopes []Scope) string {
	lines := make([]string, 0, len(scopes))
	for _, s := range scopes {
		names := make([]string, 0, len(s.Topics))
		for _, f := range s.Topics {
			names = append(names, f.String())
		}
		// A filter holds neither comma nor control character, so the joins cannot be forged.
		lines = append(lines, string(s.Type)+"\n"+strings.Join(names, ","))
	}
	slices.Sort(lines)
	sum := sha256.Sum256([]byte(strings.Join(lines, "\n\n")))
	return "v1-" + hex.EncodeToString(sum[:12])
}

// Value is the secret text of a token, key or password. Every way of printing it yields "***"; Reveal is the only way
// to the text. Values are comparable with ==.
type Value struct {
	// A handle is a pointer: fmt cannot call the methods below on a Value inside an unexported field of another type,
	// and then prints the address where it would print a string in full.
	text unique.Handle[string]
}

const redacted = "***"

// NewValue wraps a secret text.
func NewValue(text string) Value {
	if text == "" {
		return Value{}
	}
	return Value{text: unique.Make(text)}
}

// Reveal returns the secret text. Whoever calls it sends it to the service or writes it to the client's Secret, and
// does nothing else with it.
func (v Value) Reveal() string {
	if v.IsZero() {
		return ""
	}
	return v.text.Value()
}

// IsZero reports whether there is no text.
func (v Value) IsZero() bool { return v == Value{} }

// Fingerprint identifies the value without giving it away: a keyed hash that differs from grant to grant.
func (v Value) Fingerprint(key string) string {
	mac := hmac.New(sha256.New, []byte(key))
	mac.Write([]byte(v.Reveal()))
	return hex.EncodeToString(mac.Sum(nil)[:8])
}

// String hides the text.
func (v Value) String() string { return redacted }

// GoString hides the text from %#v.
func (v Value) GoString() string { return redacted }

// Format hides the text from every verb, %x and %q included.
func (v Value) Format(state fmt.State, _ rune) { state.Write([]byte(redacted)) }

// MarshalText hides the text from JSON, YAML and structured loggers.
func (v Value) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// MarshalLog hides the text from logr.
func (v Value) MarshalLog() any { return redacted }
