package credsecret

import (
	"slices"

	"github.com/mqtt-token-operator/mqtt-token-operator/internal/token"
)

// Matches reports whether the record holds exactly the tokens that the facts describe: what a careless or hostile edit
// of the payload changes, the fingerprints give away.
func (r Record) Matches(facts Facts, grantUID string) bool {
	tokens, retired := r.Describe(grantUID)
	return slices.EqualFunc(tokens, facts.Tokens, TokenFacts.equal) &&
		slices.EqualFunc(retired, facts.Retired, RetiredFacts.equal) &&
		token.ScopeID(r.Scopes()) == facts.Scope
}

func (t TokenFacts) equal(other TokenFacts) bool {
	return t.Type == other.Type && t.TopicCount == other.TopicCount && t.Fingerprint == other.Fingerprint &&
		t.Issued.Equal(other.Issued) && t.Expires.Equal(other.Expires)
}

func (t RetiredFacts) equal(other RetiredFacts) bool {
	return t.Fingerprint == other.Fingerprint && t.KeyID == other.KeyID && t.Expires.Equal(other.Expires) && t.RevokeAt.Equal(other.RevokeAt)
}

// Bounded is the record as far as a Secret may list it, for when no facts say which of it is known.
func (r Record) Bounded() Record {
	r.Retired = r.Retired[:min(len(r.Retired), MaxRetired)]
	return r
}

// Known is the part of the record that the facts describe, each token once and with the times of the facts. Texts that
// somebody put there by hand are not in it. This is care, not proof: who may write the Secret may write its facts too,
// and can have up to MaxRetired texts that they know revoked.
func (r Record) Known(facts Facts, grantUID string) Record {
	inUse, rest := map[string]Issued{}, map[string]Retired{}
	for _, t := range r.Tokens {
		inUse[t.Value.Fingerprint(grantUID)] = t
		rest[t.Value.Fingerprint(grantUID)] = Retired{Issued: t, Client: facts.Client, KeyID: facts.KeyID}
	}
	for _, t := range r.Retired {
		rest[t.Value.Fingerprint(grantUID)] = t
	}
	var known Record
	for _, described := range facts.Tokens {
		if t, found := inUse[described.Fingerprint]; found {
			t.Issued, t.Expires = described.Issued, described.Expires
			known.Tokens = append(known.Tokens, t)
			delete(inUse, described.Fingerprint)
			delete(rest, described.Fingerprint)
		}
	}
	for _, described := range facts.Retired {
		if t, found := rest[described.Fingerprint]; found {
			t.Expires, t.RevokeAt = described.Expires, described.RevokeAt
			known.Retired = append(known.Retired, t)
			delete(rest, described.Fingerprint)
		}
	}
	return known
}
