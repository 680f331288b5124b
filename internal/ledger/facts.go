package ledger

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const prefix = "mqtt.tokengrant.dev/"

const (
	// Type is the type of every page, so that a watch can select it.
	Type = prefix + "ledger"
	// FactsAnnotation holds Facts in JSON. No secret is among them.
	FactsAnnotation = prefix + "ledger"
	// Label is on every page. Its value is the namespace of the grant.
	Label = prefix + "ledger"

	namePrefix = "mqtt-ledger-"
)

// factsVersion is written into Facts; a reader takes any version and ignores fields it does not know.
const factsVersion = 1

// Name is the name of a grant's page.
func Name(grantUID string) string { return namePrefix + grantUID }

// GrantUIDOf is the UID of the grant whose page has the name; empty if it is no page's name.
func GrantUIDOf(name string) string {
	uid, isPage := strings.CutPrefix(name, namePrefix)
	if !isPage {
		return ""
	}
	return uid
}

// Facts is what is known of a page without its tokens.
type Facts struct {
	Version  int          `json:"v"`
	Grant    string       `json:"grant"` // namespace/name
	GrantUID string       `json:"uid"`
	Entries  []EntryFacts `json:"entries"`
}

// EntryFacts describes a token that must be revoked.
type EntryFacts struct {
	Fingerprint string    `json:"fingerprint"` // keyed with the grant's UID, as in the facts of its Secret
	Client      string    `json:"client"`
	Instance    string    `json:"instance"`
	Expires     time.Time `json:"expires"`
	RevokeAt    time.Time `json:"revokeAt"`
	Why         Why       `json:"why"`
	// Lost says that the token's text is gone.
	Lost bool `json:"lost,omitempty"`
}

var errNotWritten = errors.New("it is not what was written")

// ReadFacts reads the facts from a page's metadata. It fails when they are missing, cannot be understood or are those of
// another page.
func ReadFacts(meta *metav1.ObjectMeta) (Facts, error) {
	text, found := meta.Annotations[FactsAnnotation]
	if !found {
		return Facts{}, fmt.Errorf("reading annotation %s: it is missing", FactsAnnotation)
	}
	var facts Facts
	if json.Unmarshal([]byte(text), &facts) != nil || !facts.possible(meta.Name) {
		return Facts{}, fmt.Errorf("reading annotation %s: %w", FactsAnnotation, errNotWritten)
	}
	return facts, nil
}

func (f Facts) possible(name string) bool {
	if f.Version < 1 || f.GrantUID == "" || Name(f.GrantUID) != name {
		return false
	}
	return !slices.ContainsFunc(f.Entries, func(e EntryFacts) bool { return e.Expires.IsZero() || !writable(e.Expires, e.RevokeAt) })
}

// Due lists what is to be revoked now and can be: the most urgent Why first, then the earliest RevokeAt.
func (f Facts) Due(now time.Time) []EntryFacts {
	var due []EntryFacts
	for _, e := range f.Entries {
		if !e.Lost && isDue(e.Expires, e.RevokeAt, now) {
			due = append(due, e)
		}
	}
	slices.SortStableFunc(due, func(a, b EntryFacts) int { return order(a.Why, b.Why, a.RevokeAt, b.RevokeAt) })
	return due
}

// Next is when something happens to the page by itself: a token becomes due, or ends; zero without entries.
func (f Facts) Next(now time.Time) time.Time {
	var next time.Time
	for _, e := range f.Entries {
		moment := e.RevokeAt
		if e.Lost || !moment.After(now) || moment.After(e.Expires) {
			moment = e.Expires
		}
		if next.IsZero() || moment.Before(next) {
			next = moment
		}
	}
	return next
}

// Has reports whether adding the entries to the page would change nothing that matters: all that are alive are on it, to
// be revoked as early and for a reason as urgent.
func (f Facts) Has(entries []Entry, now time.Time) bool {
	return !slices.ContainsFunc(entries, func(e Entry) bool {
		return e.Expires.After(now) && !slices.ContainsFunc(f.Entries, func(known EntryFacts) bool {
			return !known.Lost && known.Fingerprint == e.Value.Fingerprint(f.GrantUID) && !known.RevokeAt.After(e.normal(now).RevokeAt) && known.Why.AsUrgentAs(e.Why)
		})
	})
}

// IsExpedited reports whether Expedite would change nothing.
func (f Facts) IsExpedited(why Why, at time.Time) bool {
	return !slices.ContainsFunc(f.Entries, func(e EntryFacts) bool {
		return !e.Lost && (e.RevokeAt.After(at) || !e.Why.AsUrgentAs(why))
	})
}

// Facts describes the page.
func (p Page) Facts() Facts {
	facts := Facts{Version: factsVersion, Grant: p.Grant, GrantUID: p.GrantUID, Entries: []EntryFacts{}}
	for _, e := range p.Entries {
		facts.Entries = append(facts.Entries, EntryFacts{
			Fingerprint: e.Value.Fingerprint(p.GrantUID), Client: e.Client, Instance: e.Instance,
			Expires: e.Expires.UTC(), RevokeAt: e.RevokeAt.UTC(), Why: e.Why,
		})
	}
	for _, l := range p.Lost {
		l.Expires, l.RevokeAt, l.Lost = l.Expires.UTC(), l.RevokeAt.UTC(), true
		facts.Entries = append(facts.Entries, l)
	}
	return facts
}
