// Package ledger holds the tokens that must still be revoked: one page for each grant, each page a Secret in the
// manager's own namespace, where no tenant reads or deletes it. It is pure: it merges, sorts, writes and reads pages, and
// leaves their storage and the revoking to others.
package ledger

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/mqtt-token-operator/mqtt-token-operator/internal/token"
)

// Why says why a token must go. It decides how urgent that is.
type Why string

// The reasons, the most urgent one first.
const (
	// Held tokens are those of a grant that a person holds: the client is to be cut off.
	Held Why = "Held"
	// Reissued tokens were replaced by a person who wants the old ones revoked.
	Reissued Why = "Reissued"
	// Compromised tokens were issued with an AccessKey that somebody else may know.
	Compromised Why = "Compromised"
	// Denied tokens are not allowed by the access rules any more.
	Denied Why = "Denied"
	// Narrowed tokens allow more than the grant now asks for.
	Narrowed Why = "Narrowed"
	// Surplus tokens are older ones than a Secret has room to list, or never reached one.
	Surplus Why = "Surplus"
	// Deleted tokens are those of a grant that is gone.
	Deleted Why = "Deleted"
)

// Whys lists the reasons, the most urgent one first. A page of a later version may hold others; they come after these.
func Whys() []Why { return []Why{Held, Reissued, Compromised, Denied, Narrowed, Surplus, Deleted} }

func (w Why) rank() int {
	if i := slices.Index(Whys(), w); i >= 0 {
		return i
	}
	return len(Whys())
}

// AsUrgentAs reports whether w is as urgent as another reason, or more.
func (w Why) AsUrgentAs(other Why) bool { return w.rank() <= other.rank() }

const (
	// MaxEntries is how many tokens a page holds at most: all that a token Secret can list, twice.
	MaxEntries = 128
	// MaxSize is the most that a page's entries may take, in bytes; a Secret holds 1 MiB including metadata.
	MaxSize = 900 << 10
	// maxLife is how long a token lives at most, whatever was asked for. Source: the service's ApplyToken page
	// (https://help.aliyun.com/document_detail/54276.html).
	maxLife = 30 * 24 * time.Hour
)

var (
	// ErrFull says that a page has no room for everything that was to be added; nothing was added then.
	ErrFull = errors.New("the page of the ledger is full")
	// errEntry says that an entry could not be written, or not be read back.
	errEntry = errors.New("an entry of the ledger needs a token that is text, and the time at which it ends")
)

// Entry is a token that must be revoked.
type Entry struct {
	Value token.Value
	// Scope is what the token allows; for people, revoking needs none.
	Scope token.Scope
	// Client is whom it was issued for: <instance id>/<client id>, as in the facts of a token Secret.
	Client string
	// Instance is the namespace/name of the MqttInstance over whose link it is revoked.
	Instance string
	Expires  time.Time
	// RevokeAt is when it is to be revoked, not earlier; zero: at once.
	RevokeAt time.Time
	Why      Why
}

// Page is everything on record for one grant.
type Page struct {
	Grant    string // namespace/name
	GrantUID string
	Entries  []Entry
	// Lost describes tokens that the page's facts know to be alive and whose text is gone, because somebody damaged the
	// page. Nobody can revoke them; they keep the page until they have expired.
	Lost []EntryFacts
	// Rest is what stood among the entries and is none, as JSON. It is kept as long as the page, where it fits.
	Rest []token.Value
}

// IsEmpty reports whether nothing is left that may be alive.
func (p Page) IsEmpty() bool { return len(p.Entries) == 0 && len(p.Lost) == 0 }

// Add puts entries on the page, each token once: of two that name the same one, the earliest RevokeAt and the most urgent
// Why win. What has expired is dropped. It adds nothing and fails with ErrFull if there is no room for all.
func (p Page) Add(entries []Entry, now time.Time) (Page, error) {
	page := p.Without(nil, now)
	before := len(page.Entries)
	for _, e := range entries {
		if !e.writable() {
			return p, errEntry
		}
		if e.Expires.After(now) {
			page.merge(e.normal(now))
		}
	}
	if len(page.Entries) == before {
		return page, nil // an urgent reason must not fail because a page is full already
	}
	if len(page.Entries)+len(page.Lost) > MaxEntries {
		return p, ErrFull
	}
	text, err := page.encode(nil)
	if err != nil {
		return p, err
	}
	if len(text) > MaxSize {
		return p, ErrFull
	}
	return page, nil
}

func (p *Page) merge(e Entry) {
	i := slices.IndexFunc(p.Entries, func(known Entry) bool { return known.Value == e.Value })
	if i < 0 {
		p.Entries = append(p.Entries, e)
		return
	}
	p.Entries[i] = p.Entries[i].expedited(e.Why, e.RevokeAt)
}

// Due lists what is to be revoked now: the most urgent Why first, then the earliest RevokeAt.
func (p Page) Due(now time.Time) []Entry {
	var due []Entry
	for _, e := range p.Entries {
		if isDue(e.Expires, e.RevokeAt, now) {
			due = append(due, e)
		}
	}
	slices.SortStableFunc(due, func(a, b Entry) int { return order(a.Why, b.Why, a.RevokeAt, b.RevokeAt) })
	return due
}

// Without is what is left when the values are revoked, and what has expired is dropped.
func (p Page) Without(values []token.Value, now time.Time) Page {
	left := Page{Grant: p.Grant, GrantUID: p.GrantUID}
	for _, e := range p.Entries {
		if !slices.Contains(values, e.Value) && e.Expires.After(now) {
			left.Entries = append(left.Entries, e)
		}
	}
	for _, l := range p.Lost {
		if l.Expires.IsZero() { // nobody knows, so as long as any token can live
			l.Expires = now.Add(maxLife).UTC().Truncate(time.Second)
		}
		if l.Expires.After(now) {
			left.Lost = append(left.Lost, l)
		}
	}
	if !left.IsEmpty() {
		left.Rest = p.Rest
	}
	return left
}

// Expedite has everything revoked at the given time at the latest, and for a reason that is as urgent at least.
func (p Page) Expedite(why Why, at time.Time) Page {
	p.Entries = slices.Clone(p.Entries)
	for i, e := range p.Entries {
		p.Entries[i] = e.expedited(why, at.UTC())
	}
	return p
}

func (e Entry) expedited(why Why, at time.Time) Entry {
	if at.Before(e.RevokeAt) {
		e.RevokeAt = at
	}
	if !e.Why.AsUrgentAs(why) {
		e.Why = why
	}
	return e
}

// normal is the entry as it reads when it was written and read again. It lives no longer than a token can, so that nobody
// has something kept on record for ever.
func (e Entry) normal(now time.Time) Entry {
	if e.RevokeAt.IsZero() {
		e.RevokeAt = now
	}
	if latest := now.Add(maxLife); e.Expires.After(latest) {
		e.Expires = latest
	}
	e.RevokeAt, e.Expires = e.RevokeAt.UTC().Round(0), e.Expires.UTC().Round(0)
	return e
}

// writable refuses what would read differently. U+FFFD is what text that is none decodes to: revoking that would pass for
// revoking the token.
func (e Entry) writable() bool {
	texts := e.Value.Reveal() + e.Client + e.Instance + string(e.Why)
	return !e.Value.IsZero() && !strings.ContainsRune(texts, utf8.RuneError) && !e.Expires.IsZero() && writable(e.Expires, e.RevokeAt)
}

// writable reports whether the times can be written as RFC 3339 in UTC, which has four digits for the year.
func writable(times ...time.Time) bool {
	return !slices.ContainsFunc(times, func(t time.Time) bool { return t.UTC().Year() < 1 || t.UTC().Year() > 9999 })
}

func isDue(expires, revokeAt, now time.Time) bool { return expires.After(now) && !revokeAt.After(now) }

func order(a, b Why, aAt, bAt time.Time) int {
	if a.rank() != b.rank() {
		return a.rank() - b.rank()
	}
	return aAt.Compare(bAt)
}

// Damage says what of the page cannot be understood, without quoting it; nil if all of it can.
func (p Page) Damage() error {
	if len(p.Lost) == 0 && len(p.Rest) == 0 {
		return nil
	}
	return fmt.Errorf("key %s: %d token(s) that are alive have lost their text, %d piece(s) cannot be understood", dataKey, len(p.Lost), len(p.Rest))
}
