package mqttcred

import "time"

// Permission is one topic filter, what the client may do with it, and until when.
type Permission struct {
	// Filter is an MQTT topic filter.
	Filter string `json:"filter"`
	// Actions are Publish, Subscribe, or both.
	Actions []string `json:"actions"`
	// Types are the types of the tokens that allow it: R, W, RW.
	Types []string `json:"types"`
	// ExpiresAt is when the first of those tokens ends.
	ExpiresAt time.Time `json:"expiresAt"`
}

// Token is one token: what a client uploads to $SYS/uploadToken to go on without reconnecting.
type Token struct {
	// Type is R, W or RW.
	Type string `json:"type"`
	// Token is the secret text.
	Token string `json:"token"`
	// IssuedAt is when it was applied for.
	IssuedAt time.Time `json:"issuedAt"`
	// ExpiresAt is when it ends.
	ExpiresAt time.Time `json:"expiresAt"`
}

// RetiredToken is a token that a newer one replaced, while it is alive.
type RetiredToken struct {
	Token
	// Topics are the topic filters that it carries.
	Topics []string `json:"topics"`
	// Client is whom it was issued for.
	Client string `json:"client"`
	// KeyID is the AccessKey id that it was issued for.
	KeyID string `json:"key,omitempty"`
	// RevokeAt is when an older operator meant to revoke it; absent when it is left to expire.
	RevokeAt *time.Time `json:"revokeAt,omitempty"`
}
