package credsecret

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/mqtt-token-operator/mqtt-token-operator/internal/token"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/topic"
	"github.com/mqtt-token-operator/mqtt-token-operator/pkg/mqttcred"
)

// envRecord is what MQTT_OPERATOR_RECORD holds, in base64: the documents that format Files has as keys of their own.
type envRecord struct {
	Tokens      []mqttcred.Token        `json:"tokens"`
	Permissions []mqttcred.Permission   `json:"permissions"`
	Retired     []mqttcred.RetiredToken `json:"retired"`
}

// ReadRecord reads the tokens back from a Secret that Render made, of either format. It fails on anything else; its
// errors name keys and never values.
func ReadRecord(secret *corev1.Secret) (Record, error) {
	var stored envRecord
	if text, env := secret.Data[mqttcred.EnvRecord]; env {
		plain, err := base64.StdEncoding.DecodeString(string(text))
		if err != nil || json.Unmarshal(plain, &stored) != nil {
			return Record{}, unreadable(mqttcred.EnvRecord)
		}
		return stored.record()
	}
	for key, into := range map[string]any{
		mqttcred.KeyTokens: &stored.Tokens, mqttcred.KeyPermissions: &stored.Permissions, mqttcred.KeyRetired: &stored.Retired,
	} {
		if json.Unmarshal(secret.Data[key], into) != nil {
			return Record{}, unreadable(key)
		}
	}
	return stored.record()
}

func unreadable(key string) error {
	return fmt.Errorf("reading key %s: it is not what was written", key)
}

func encodeEnvRecord(record Record) (string, error) {
	var stored envRecord
	stored.Tokens, stored.Permissions, stored.Retired = documents(record)
	text, err := json.Marshal(stored)
	if err != nil {
		return "", err
	}
	return base64.StdEncoding.EncodeToString(text), nil
}

// password joins the tokens as the broker takes them at CONNECT.
func password(tokens []Issued) string {
	var parts []string
	for _, t := range sorted(tokens) {
		parts = append(parts, wireType(t.Scope.Type), t.Value.Reveal())
	}
	return strings.Join(parts, "|")
}

// documents returns what tokens.json, permissions.json and retired.json hold; lists, never null.
func documents(record Record) ([]mqttcred.Token, []mqttcred.Permission, []mqttcred.RetiredToken) {
	tokens := []mqttcred.Token{}
	for _, t := range sorted(record.Tokens) {
		tokens = append(tokens, wireToken(t))
	}
	retired := []mqttcred.RetiredToken{}
	for _, r := range record.Retired {
		entry := mqttcred.RetiredToken{Token: wireToken(r.Issued), Topics: names(r.Scope.Topics), Client: r.Client}
		if !r.RevokeAt.IsZero() {
			at := r.RevokeAt.UTC()
			entry.RevokeAt = &at
		}
		retired = append(retired, entry)
	}
	return tokens, permissions(record.Tokens), retired
}

// permissions lists each filter once, sorted, with everything the tokens together allow on it.
func permissions(tokens []Issued) []mqttcred.Permission {
	byFilter := map[string]mqttcred.Permission{}
	for _, t := range sorted(tokens) {
		for _, name := range names(t.Scope.Topics) {
			p, found := byFilter[name]
			if !found || t.Expires.Before(p.ExpiresAt) {
				p.ExpiresAt = t.Expires.UTC()
			}
			p.Filter = name
			p.Types = append(p.Types, wireType(t.Scope.Type))
			for _, action := range t.Scope.Type.Actions() {
				p.Actions = append(p.Actions, string(action))
			}
			slices.Sort(p.Actions)
			p.Actions = slices.Compact(p.Actions)
			byFilter[name] = p
		}
	}
	list := make([]mqttcred.Permission, 0, len(byFilter))
	for _, p := range byFilter {
		list = append(list, p)
	}
	slices.SortFunc(list, func(a, b mqttcred.Permission) int { return strings.Compare(a.Filter, b.Filter) })
	return list
}

func (stored envRecord) record() (Record, error) {
	var record Record
	for _, t := range stored.Tokens {
		var filters []string
		for _, p := range stored.Permissions {
			if slices.Contains(p.Types, t.Type) {
				filters = append(filters, p.Filter)
			}
		}
		issued, err := readToken(t, filters)
		if err != nil {
			return Record{}, err
		}
		record.Tokens = append(record.Tokens, issued)
	}
	for _, r := range stored.Retired {
		issued, err := readToken(r.Token, r.Topics)
		if err != nil {
			return Record{}, err
		}
		retired := Retired{Issued: issued, Client: r.Client}
		if r.RevokeAt != nil {
			retired.RevokeAt = *r.RevokeAt
		}
		record.Retired = append(record.Retired, retired)
	}
	return record, nil
}

func readToken(t mqttcred.Token, filters []string) (Issued, error) {
	var topics []topic.Filter
	for _, text := range filters {
		filter, err := topic.Parse(text)
		if err != nil {
			return Issued{}, err
		}
		topics = append(topics, filter)
	}
	scope, err := token.NewScope(tokenType(t.Type), topics...)
	if err != nil {
		return Issued{}, err
	}
	if t.Token == "" {
		return Issued{}, unreadable(mqttcred.KeyTokens)
	}
	return Issued{Scope: scope, Value: token.NewValue(t.Token), Issued: t.IssuedAt, Expires: t.ExpiresAt}, nil
}

func wireToken(t Issued) mqttcred.Token {
	return mqttcred.Token{
		Type: wireType(t.Scope.Type), Token: t.Value.Reveal(), IssuedAt: t.Issued.UTC(), ExpiresAt: t.Expires.UTC(),
	}
}

// wireType is the broker's word for a type; empty for an unknown one, which NewScope refuses.
func wireType(t token.Type) string {
	switch t {
	case token.Subscribe:
		return mqttcred.TypeSubscribe
	case token.Publish:
		return mqttcred.TypePublish
	case token.PublishSubscribe:
		return mqttcred.TypePublishSubscribe
	}
	return ""
}

func tokenType(wire string) token.Type {
	for _, t := range []token.Type{token.Subscribe, token.Publish, token.PublishSubscribe} {
		if wireType(t) == wire {
			return t
		}
	}
	return ""
}

func sorted(tokens []Issued) []Issued {
	return slices.SortedFunc(slices.Values(tokens), func(a, b Issued) int {
		return strings.Compare(wireType(a.Scope.Type), wireType(b.Scope.Type))
	})
}

func names(topics []topic.Filter) []string {
	list := make([]string, 0, len(topics))
	for _, f := range topics {
		list = append(list, f.String())
	}
	return list
}

// Matches reports whether the record holds exactly the tokens that the facts describe: what a careless or hostile edit
// of the payload changes, the fingerprints give away.
func (r Record) Matches(facts Facts, grantUID string) bool {
	tokens, retired := r.Describe(grantUID)
	same := func(a, b TokenFacts) bool {
		return a.Type == b.Type && a.Fingerprint == b.Fingerprint && a.TopicCount == b.TopicCount && equal(a.Expires, b.Expires)
	}
	sameRetired := func(a, b RetiredFacts) bool { return a.Fingerprint == b.Fingerprint && equal(a.Expires, b.Expires) }
	return slices.EqualFunc(tokens, facts.Tokens, same) && slices.EqualFunc(retired, facts.Retired, sameRetired) &&
		token.ScopeID(r.Scopes()) == facts.Scope
}

// Known is the part of the record that the facts describe. Texts that somebody put there by hand are not in it, so that
// nobody can have a token of their choice revoked.
func (r Record) Known(facts Facts, grantUID string) Record {
	listed := map[string]bool{}
	for _, t := range facts.Tokens {
		listed[t.Fingerprint] = true
	}
	for _, t := range facts.Retired {
		listed[t.Fingerprint] = true
	}
	var known Record
	for _, t := range r.Tokens {
		if listed[t.Value.Fingerprint(grantUID)] {
			known.Tokens = append(known.Tokens, t)
		}
	}
	for _, t := range r.Retired {
		if listed[t.Value.Fingerprint(grantUID)] {
			known.Retired = append(known.Retired, t)
		}
	}
	return known
}

func equal(a, b time.Time) bool { return a.Equal(b) }
