package credsecret

import (
	"encoding/json"
	"fmt"
	"math"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mqtt-token-operator/mqtt-token-operator/internal/token"
)

const prefix = "mqtt.tokengrant.dev/"

// Annotations and the label that the operator puts on a token Secret.
const (
	// FactsAnnotation holds Facts in JSON. No secret is among them.
	FactsAnnotation = prefix + "facts"
	// GrantUIDAnnotation and ClusterIDAnnotation tell whose Secret it is, also after a backup was restored elsewhere.
	GrantUIDAnnotation  = prefix + "grant-uid"
	ClusterIDAnnotation = prefix + "cluster-id"
	// GrantLabel holds the grant's name.
	GrantLabel = prefix + "grant"
)

// Type is the type of every token Secret, so that watches can select it.
const Type = prefix + "token"

// factsVersion is written into Facts; a reader takes any version and ignores fields it does not know. Version 2 names the
// instance, and the AccessKey ids of retired tokens; version 1 had some of those revoked from the Secret.
const factsVersion = 2

// Facts is what decisions and status need to know of the Secret, tokens apart.
type Facts struct {
	Version    int    `json:"v"`
	Generation int64  `json:"generation"`         // of the grant that the Secret was written for
	Revision   int64  `json:"revision"`           // how often tokens were issued into it
	Scope      string `json:"scope"`              // token.ScopeID of the tokens in use
	Client     string `json:"client"`             // <instance id>/<client id>
	Instance   string `json:"instance,omitempty"` // namespace/name of the MqttInstance
	// InstanceUID tells an MqttInstance from another one of its name.
	InstanceUID string         `json:"instanceUID,omitempty"`
	KeyID       string         `json:"key"` // AccessKey id in the username
	Reissue     string         `json:"reissue,omitempty"`
	Rendering   string         `json:"rendering"` // Layout.ID
	Issued      time.Time      `json:"issued"`
	Tokens      []TokenFacts   `json:"tokens"`
	Retired     []RetiredFacts `json:"retired,omitempty"`
}

// TokenFacts describes a token in use.
type TokenFacts struct {
	Type        token.Type `json:"type"`
	TopicCount  int        `json:"topics"`
	Issued      time.Time  `json:"issued"`
	Expires     time.Time  `json:"expires"`
	Fingerprint string     `json:"fingerprint"`
}

// RetiredFacts describes a retired token.
type RetiredFacts struct {
	Expires     time.Time `json:"expires"`
	RevokeAt    time.Time `json:"revokeAt,omitzero"` // version 1 only
	KeyID       string    `json:"key,omitempty"`
	Fingerprint string    `json:"fingerprint"`
}

// ReadFacts reads the facts from a Secret's metadata. It fails when they are missing or cannot be understood.
func ReadFacts(meta *metav1.ObjectMeta) (Facts, error) {
	text, found := meta.Annotations[FactsAnnotation]
	if !found {
		return Facts{}, fmt.Errorf("reading annotation %s: it is missing", FactsAnnotation)
	}
	var facts Facts
	if json.Unmarshal([]byte(text), &facts) != nil || !facts.possible() {
		return Facts{}, fmt.Errorf("reading annotation %s: %w", FactsAnnotation, errNotWritten)
	}
	return facts, nil
}

// Encode is the text of FactsAnnotation. It fails only on times that no version writes.
func (f Facts) Encode() (string, error) {
	text, err := json.Marshal(f)
	if err != nil {
		return "", fmt.Errorf("writing annotation %s: %w", FactsAnnotation, err)
	}
	return string(text), nil
}

// MaxRetired is the most retired tokens that a Secret may list.
const MaxRetired = 64

// maxRevision leaves room below what a status can hold, so that a reading always has a successor.
const maxRevision = math.MaxInt32 / 2

// possible refuses what no version writes and what could not be carried on to a status: the annotation is in reach of
// the grant's owner.
func (f Facts) possible() bool {
	if f.Version < 1 || f.Revision < 0 || f.Revision > maxRevision || len(f.Retired) > MaxRetired || !writable(f.Issued) {
		return false
	}
	for _, t := range f.Tokens {
		if t.TopicCount < 1 || t.TopicCount > token.MaxTopics || t.Expires.IsZero() || !writable(t.Issued, t.Expires) {
			return false
		}
	}
	for _, t := range f.Retired {
		if t.Expires.IsZero() || !writable(t.Expires, t.RevokeAt) {
			return false
		}
	}
	return true
}

// Describe returns the facts of a record, in the order in which the record is written; the fingerprints are keyed with
// the grant's UID.
func (r Record) Describe(grantUID string) ([]TokenFacts, []RetiredFacts) {
	var tokens []TokenFacts
	for _, t := range sorted(r.Tokens) {
		tokens = append(tokens, TokenFacts{
			Type: t.Scope.Type, TopicCount: len(t.Scope.Topics), Issued: t.Issued.UTC(), Expires: t.Expires.UTC(),
			Fingerprint: t.Value.Fingerprint(grantUID),
		})
	}
	var retired []RetiredFacts
	for _, t := range r.Retired {
		retired = append(retired, RetiredFacts{
			Expires: t.Expires.UTC(), RevokeAt: t.RevokeAt.UTC(), KeyID: t.KeyID, Fingerprint: t.Value.Fingerprint(grantUID),
		})
	}
	return tokens, retired
}
