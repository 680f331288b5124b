package credsecret

import (
	"encoding/base64"
	"encoding/json"
	"errors"
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
	if text, env := secret.Data[mqttcred.EnvRecord]; env {
		record, err := decodeEnvRecord(string(text))
		if err != nil {
			return Record{}, fmt.Errorf("reading key %s: %w", mqttcred.EnvRecord, err)
		}
		return record, nil
	}
	var stored envRecord
	for _, document := range []struct {
		key  string
		into any
	}{
		{mqttcred.KeyTokens, &stored.Tokens},
		{mqttcred.KeyPermissions, &stored.Permissions},
		{mqttcred.KeyRetired, &stored.Retired},
	} {
		if json.Unmarshal(secret.Data[document.key], document.into) != nil {
			return Record{}, unreadable(document.key)
		}
	}
	return stored.record()
}

// errNotWritten is all that is said of contents that Render did not make: the details would quote them.
var errNotWritten = errors.New("it is not what was written")

func unreadable(key string) error {
	return fmt.Errorf("reading key %s: %w", key, errNotWritten)
}

func decodeEnvRecord(text string) (Record, error) {
	plain, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return Record{}, errNotWritten
	}
	var stored envRecord
	if json.Unmarshal(plain, &stored) != nil {
		return Record{}, errNotWritten
	}
	return stored.record()
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

// Username is what the broker takes as the user of a CONNECT with tokens: the AccessKey id that they were issued for, and
// the instance.
func Username(keyID, instanceID string) string { return "Token|" + keyID + "|" + instanceID }

// Password is what goes with it for one token.
func Password(t token.Type, value token.Value) token.Value {
	return token.NewValue(wireType(t) + "|" + value.Reveal())
}

// password joins the passwords of several tokens.
func password(tokens []Issued) string {
	var parts []string
	for _, t := range sorted(tokens) {
		parts = append(parts, Password(t.Scope.Type, t.Value).Reveal())
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
		entry := mqttcred.RetiredToken{Token: wireToken(r.Issued), Topics: names(r.Scope.Topics), Client: r.Client, KeyID: r.KeyID}
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

// record refuses what Render never writes: a list that is null, a type twice, a filter that is none.
func (stored envRecord) record() (Record, error) {
	switch {
	case stored.Tokens == nil || !distinctTypes(stored.Tokens):
		return Record{}, unreadable(mqttcred.KeyTokens)
	case stored.Permissions == nil:
		return Record{}, unreadable(mqttcred.KeyPermissions)
	case stored.Retired == nil:
		return Record{}, unreadable(mqttcred.KeyRetired)
	}
	var record Record
	for _, t := range stored.Tokens {
		issued, ok := readToken(t, stored.filters(t.Type))
		if !ok {
			return Record{}, unreadable(mqttcred.KeyTokens)
		}
		record.Tokens = append(record.Tokens, issued)
	}
	for _, r := range stored.Retired {
		retired, ok := readRetired(r)
		if !ok {
			return Record{}, unreadable(mqttcred.KeyRetired)
		}
		record.Retired = append(record.Retired, retired)
	}
	return record, nil
}

func distinctTypes(tokens []mqttcred.Token) bool {
	seen := map[string]bool{}
	for _, t := range tokens {
		if seen[t.Type] {
			return false
		}
		seen[t.Type] = true
	}
	return true
}

func (stored envRecord) filters(wire string) []string {
	var filters []string
	for _, p := range stored.Permissions {
		if slices.Contains(p.Types, wire) {
			filters = append(filters, p.Filter)
		}
	}
	return filters
}

func readToken(t mqttcred.Token, filters []string) (Issued, bool) {
	var topics []topic.Filter
	for _, text := range filters {
		filter, err := topic.Parse(text)
		if err != nil {
			return Issued{}, false
		}
		topics = append(topics, filter)
	}
	scope, err := token.NewScope(tokenType(t.Type), topics...)
	if err != nil || t.Token == "" || t.ExpiresAt.IsZero() || !writable(t.IssuedAt, t.ExpiresAt) {
		return Issued{}, false
	}
	return Issued{Scope: scope, Value: token.NewValue(t.Token), Issued: t.IssuedAt.UTC(), Expires: t.ExpiresAt.UTC()}, true
}

func readRetired(r mqttcred.RetiredToken) (Retired, bool) {
	issued, ok := readToken(r.Token, r.Topics)
	retired := Retired{Issued: issued, Client: r.Client, KeyID: r.KeyID}
	if r.RevokeAt != nil {
		retired.RevokeAt = r.RevokeAt.UTC()
	}
	return retired, ok && writable(retired.RevokeAt)
}

// writable reports whether the times can be written as RFC 3339 in UTC, which has four digits for the year; an offset
// can push a time that was read over the edge.
func writable(times ...time.Time) bool {
	return !slices.ContainsFunc(times, func(t time.Time) bool { return t.UTC().Year() < 1 || t.UTC().Year() > 9999 })
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
