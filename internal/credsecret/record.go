// Package credsecret renders a grant's tokens into the Secret that pods mount, and reads them back. Render and Read are
// inverses. The facts that decisions rest on are annotations, so that a watch on metadata alone can serve them.
package credsecret

import (
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/mqtt-token-operator/mqtt-token-operator/internal/token"
)

// Record is everything alive that the Secret knows of.
type Record struct {
	Tokens  []Issued
	Retired []Retired
}

// Issued is a token in use, with its secret text.
type Issued struct {
	Scope   token.Scope
	Value   token.Value
	Issued  time.Time
	Expires time.Time
}

// Retired is a token that a newer one replaced.
type Retired struct {
	Issued
	// Client is whom it was issued for, as in Facts.
	Client string
	// KeyID is the AccessKey id it was issued for; empty where an older manager did not write it down.
	KeyID string
	// RevokeAt is when an older manager meant to revoke it from here; zero: it is left to expire.
	RevokeAt time.Time
}

// Scopes lists the scopes of the tokens in use.
func (r Record) Scopes() []token.Scope {
	var scopes []token.Scope
	for _, t := range r.Tokens {
		scopes = append(scopes, t.Scope)
	}
	return scopes
}

// Expires is when the first token in use ends; zero without tokens.
func (r Record) Expires() time.Time {
	var first time.Time
	for _, t := range r.Tokens {
		if first.IsZero() || t.Expires.Before(first) {
			first = t.Expires
		}
	}
	return first
}

// Issued is when the newest token in use was applied for; zero without tokens.
func (r Record) Issued() time.Time {
	var last time.Time
	for _, t := range r.Tokens {
		if t.Issued.After(last) {
			last = t.Issued
		}
	}
	return last
}

// check refuses what could not be read back, or what a broker would misread.
func (r Record) check() error {
	types := map[token.Type]bool{}
	for _, t := range r.Tokens {
		if types[t.Scope.Type] {
			return fmt.Errorf("a Secret holds one token of type %s, not two", t.Scope.Type)
		}
		types[t.Scope.Type] = true
		if err := t.check(); err != nil {
			return err
		}
	}
	for _, t := range r.Retired {
		if err := t.check(); err != nil {
			return err
		}
	}
	return nil
}

func (t Issued) check() error {
	switch {
	case wireType(t.Scope.Type) == "" || len(t.Scope.Topics) == 0:
		return fmt.Errorf("a token of type %q for %d topics cannot be written", t.Scope.Type, len(t.Scope.Topics))
	case t.Value.IsZero() || strings.Contains(t.Value.Reveal(), "|") || !utf8.ValidString(t.Value.Reveal()):
		return fmt.Errorf("a token of type %s has a text that a password cannot carry", t.Scope.Type)
	case t.Expires.IsZero() || !writable(t.Issued, t.Expires):
		return fmt.Errorf("a token of type %s lacks its times", t.Scope.Type)
	}
	return nil
}
