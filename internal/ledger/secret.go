package ledger

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mqtt-token-operator/mqtt-token-operator/internal/token"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/topic"
)

// dataKey is the one key of a page.
const dataKey = "entries.json"

// maxAnnotations is what the API server lets all annotations of an object take together, in bytes.
const maxAnnotations = 256 << 10

// wireEntry is an entry as the page spells it. It holds a token in the clear: it never leaves this file.
type wireEntry struct {
	Token    string    `json:"token"`
	Type     string    `json:"type,omitempty"`
	Topics   []string  `json:"topics,omitempty"`
	Client   string    `json:"client"`
	Instance string    `json:"instance"`
	Expires  time.Time `json:"expires"`
	RevokeAt time.Time `json:"revokeAt"`
	Why      Why       `json:"why"`
}

// Render returns the Secret that carries the page. It fails if that would be larger than a Secret can be; what could not
// be understood when the page was read is left out first.
func (p Page) Render(namespace string) (*corev1.Secret, error) {
	text, err := p.encode(p.Rest)
	if err == nil && len(text) > MaxSize {
		text, err = p.encode(nil)
	}
	if err != nil {
		return nil, err
	}
	facts, err := json.Marshal(p.Facts())
	if err != nil {
		return nil, fmt.Errorf("writing annotation %s: %w", FactsAnnotation, err)
	}
	if len(text) > MaxSize || len(facts) > maxAnnotations {
		return nil, ErrFull
	}
	return &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: namespace, Name: Name(p.GrantUID),
			Labels:      map[string]string{Label: labelValue(p.Grant)},
			Annotations: map[string]string{FactsAnnotation: string(facts)},
		},
		Type: Type,
		Data: map[string][]byte{dataKey: text},
	}, nil
}

// labelValue is the namespace of the grant, as far as a label can carry it: a damaged page may name anything.
func labelValue(grant string) string {
	namespace, _, _ := strings.Cut(grant, "/")
	valid := func(r rune) bool { return r >= 'a' && r <= 'z' || r >= '0' && r <= '9' }
	if len(namespace) > 63 || strings.ContainsFunc(namespace, func(r rune) bool { return r != '-' && !valid(r) }) || strings.Trim(namespace, "-") != namespace {
		return ""
	}
	return namespace
}

func (p Page) encode(rest []token.Value) ([]byte, error) {
	pieces := make([]json.RawMessage, 0, len(p.Entries)+len(rest))
	for _, e := range p.Entries {
		wire := wireEntry{
			Token: e.Value.Reveal(), Type: string(e.Scope.Type), Client: e.Client, Instance: e.Instance,
			Expires: e.Expires.UTC(), RevokeAt: e.RevokeAt.UTC(), Why: e.Why,
		}
		for _, f := range e.Scope.Topics {
			wire.Topics = append(wire.Topics, f.String())
		}
		text, err := json.Marshal(wire)
		if err != nil {
			return nil, fmt.Errorf("writing key %s: %w", dataKey, errEntry) // the encoder's words could quote a value
		}
		pieces = append(pieces, text)
	}
	for _, piece := range rest {
		pieces = append(pieces, json.RawMessage(piece.Reveal()))
	}
	text, err := json.Marshal(pieces)
	if err != nil {
		return nil, fmt.Errorf("writing key %s: %w", dataKey, errEntry)
	}
	return text, nil
}

// Read reads a page back. It fails on a Secret that is no page. Of a page that somebody damaged it returns all that can
// be understood, and keeps what is known of the rest; Page.Damage tells.
func Read(secret *corev1.Secret) (Page, error) {
	uid := GrantUIDOf(secret.Name)
	if secret.Type != Type || uid == "" {
		return Page{}, fmt.Errorf("a Secret of type %q is no page of the ledger", secret.Type)
	}
	page := Page{GrantUID: uid}
	for _, piece := range split(secret.Data[dataKey]) {
		if e, ok := decode(piece); ok {
			page.merge(e)
			continue
		}
		page.Rest = append(page.Rest, token.NewValue(string(piece)))
	}
	facts, err := ReadFacts(&secret.ObjectMeta)
	if err != nil {
		if len(page.Rest) > 0 || len(page.Entries) == 0 {
			page.Lost = []EntryFacts{{Lost: true}} // there may have been more, for as long as a token lives
		}
		return page, nil
	}
	page.Grant = facts.Grant
	page.Lost = page.lost(facts)
	return page, nil
}

// lost lists what the facts know and the entries do not.
func (p Page) lost(facts Facts) []EntryFacts {
	known := map[string]bool{}
	for _, e := range p.Entries {
		known[e.Value.Fingerprint(p.GrantUID)] = true
	}
	var lost []EntryFacts
	for _, e := range facts.Entries {
		if known[e.Fingerprint] {
			continue
		}
		if e.Fingerprint != "" {
			known[e.Fingerprint] = true
		}
		e.Expires, e.RevokeAt, e.Lost = e.Expires.UTC(), e.RevokeAt.UTC(), true
		lost = append(lost, e)
	}
	return lost
}

// split returns the elements of an array. What is no array, or not one to its end, becomes one more element: a string.
func split(text []byte) []json.RawMessage {
	decoder := json.NewDecoder(bytes.NewReader(text))
	if start, err := decoder.Token(); err != nil || start != json.Delim('[') {
		return appendText(nil, text)
	}
	var pieces []json.RawMessage
	for decoder.More() {
		at := decoder.InputOffset()
		var piece json.RawMessage
		if decoder.Decode(&piece) != nil {
			return appendText(pieces, text[at:])
		}
		if canonical, err := json.Marshal(piece); err == nil { // what was decoded can be encoded
			pieces = append(pieces, canonical)
		}
	}
	at := decoder.InputOffset()
	if end, err := decoder.Token(); err != nil || end != json.Delim(']') {
		return appendText(pieces, text[at:])
	}
	return appendText(pieces, text[decoder.InputOffset():])
}

func appendText(pieces []json.RawMessage, text []byte) []json.RawMessage {
	if len(bytes.TrimSpace(text)) == 0 {
		return pieces
	}
	piece, err := json.Marshal(string(text))
	if err != nil {
		return pieces // a string can be encoded
	}
	return append(pieces, piece)
}

// decode reads what is needed to revoke a token. A scope that cannot be understood is left out: a later version may know
// other ones, and their tokens must go all the same.
func decode(piece json.RawMessage) (Entry, bool) {
	var wire wireEntry
	if !utf8.Valid(piece) || json.Unmarshal(piece, &wire) != nil {
		return Entry{}, false
	}
	e := Entry{
		Value: token.NewValue(wire.Token), Scope: scope(wire), Client: wire.Client, Instance: wire.Instance,
		Expires: wire.Expires.UTC(), RevokeAt: wire.RevokeAt.UTC(), Why: wire.Why,
	}
	return e, e.writable()
}

func scope(wire wireEntry) token.Scope {
	var topics []topic.Filter
	for _, text := range wire.Topics {
		filter, err := topic.Parse(text)
		if err != nil {
			return token.Scope{}
		}
		topics = append(topics, filter)
	}
	made, err := token.NewScope(token.Type(wire.Type), topics...)
	if err != nil {
		return token.Scope{}
	}
	return made
}
