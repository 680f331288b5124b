package state

import (
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"slices"
	"time"

	"github.com/mqtt-token-operator/mqtt-token-operator/internal/token"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/topic"
)

// textBytes makes a text of 344 characters that ends in "=", like the documented sample.
const textBytes = 256

// Token is what the issuer knows of a token. It holds no secret: the text itself is not kept.
type Token struct {
	// ID is the fingerprint that IDOf computes from the text.
	ID         string     `json:"id"`
	AccountID  string     `json:"accountID"`
	KeyID      string     `json:"keyID"`
	InstanceID string     `json:"instanceID"`
	Type       token.Type `json:"type"`
	Topics     []string   `json:"topics"`
	Issued     time.Time  `json:"issued"`
	Expires    time.Time  `json:"expires"`
	Revoked    time.Time  `json:"revoked,omitzero"`
	// Revocations is how many calls revoked it; one would do.
	Revocations int `json:"revocations"`
	filters     []topic.Filter
}

// IDOf names the token that has the text, without giving the text away.
func IDOf(text token.Value) string { return text.Fingerprint("simulator") }

// Matches reports whether one of the token's topics matches a topic name, whatever the token's type.
func (t Token) Matches(name string) bool {
	return slices.ContainsFunc(t.filters, func(f topic.Filter) bool { return f.Matches(name) })
}

// Covers reports whether one of the token's topics covers a topic filter, whatever the token's type.
func (t Token) Covers(filter topic.Filter) bool {
	return slices.ContainsFunc(t.filters, func(f topic.Filter) bool { return f.Covers(filter) })
}

// Validity is what the issuer says of a token.
type Validity int

// The four answers.
const (
	Unknown Validity = iota
	Valid
	Expired
	Revoked
)

// String names the validity.
func (v Validity) String() string {
	return [...]string{Unknown: "Unknown", Valid: "Valid", Expired: "Expired", Revoked: "Revoked"}[v]
}

// validity judges by expiry first: a token that has ended needs no revocation.
func (t *Token) validity(now time.Time, revocationDelay time.Duration) Validity {
	switch {
	case t == nil:
		return Unknown
	case !now.Before(t.Expires):
		return Expired
	case !t.Revoked.IsZero() && !now.Before(t.Revoked.Add(revocationDelay)):
		return Revoked
	default:
		return Valid
	}
}

func newText() (token.Value, error) {
	random := make([]byte, textBytes)
	if _, err := rand.Read(random); err != nil {
		return token.Value{}, fmt.Errorf("drawing a token: %w", err)
	}
	return token.NewValue(base64.StdEncoding.EncodeToString(random)), nil
}
