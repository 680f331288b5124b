package ledger_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/mqtt-token-operator/mqtt-token-operator/internal/ledger"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/token"
)

func TestAdd(t *testing.T) {
	expired := revoke("gone", ledger.Held, 0)
	expired.Expires = noon
	never := revoke("b", ledger.Held, 0)
	never.RevokeAt = time.Time{}
	for sentence, tc := range map[string]struct {
		have, add []ledger.Entry
		want      []string
	}{
		"entries keep the order in which they came": {
			have: []ledger.Entry{revoke("b", ledger.Denied, 5)}, add: []ledger.Entry{revoke("a", ledger.Held, 0)},
			want: []string{"b Denied 5m0s", "a Held 0s"},
		},
		"the same token stands once, the earlier time wins": {
			have: []ledger.Entry{revoke("a", ledger.Narrowed, 5)}, add: []ledger.Entry{revoke("a", ledger.Narrowed, 2), revoke("a", ledger.Narrowed, 9)},
			want: []string{"a Narrowed 2m0s"},
		},
		"the more urgent reason wins, whichever came first": {
			have: []ledger.Entry{revoke("a", ledger.Deleted, 0), revoke("b", ledger.Held, 1)},
			add:  []ledger.Entry{revoke("a", ledger.Denied, 3), revoke("b", ledger.Surplus, 0)},
			want: []string{"a Denied 0s", "b Held 0s"},
		},
		"a reason that this version does not know is the least urgent": {
			have: []ledger.Entry{revoke("a", "Later", 0), revoke("b", ledger.Deleted, 0)},
			add:  []ledger.Entry{revoke("a", ledger.Deleted, 0), revoke("b", "Later", 0)},
			want: []string{"a Deleted 0s", "b Deleted 0s"},
		},
		"what has expired is dropped":   {add: []ledger.Entry{expired, revoke("a", ledger.Held, 0)}, want: []string{"a Held 0s"}},
		"without a time it is due now":  {add: []ledger.Entry{never}, want: []string{"b Held 0s"}},
		"nothing added changes nothing": {have: []ledger.Entry{revoke("a", ledger.Held, 0)}, want: []string{"a Held 0s"}},
	} {
		t.Run(sentence, func(t *testing.T) {
			got, err := page(t, tc.have...).Add(tc.add, noon)
			if err != nil {
				t.Fatal(err)
			}
			if d := diff(tc.want, told(got)); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
}

func many(n int) []ledger.Entry {
	var entries []ledger.Entry
	for i := range n {
		entries = append(entries, revoke(fmt.Sprintf("token-%03d", i), ledger.Narrowed, 5))
	}
	return entries
}

func TestAFullPageRefusesAndForgetsNothing(t *testing.T) {
	wide := many(ledger.MaxEntries)
	var filters []string
	for n := range token.MaxTopics {
		filters = append(filters, fmt.Sprintf("%03d/", n)+strings.Repeat("線", 60))
	}
	for i := range wide {
		wide[i].Scope = scope(t, filters...)
	}
	for sentence, tc := range map[string]struct {
		have, add []ledger.Entry
		want      error
	}{
		"one too many":                 {have: many(ledger.MaxEntries), add: []ledger.Entry{revoke("one-more", ledger.Held, 0)}, want: ledger.ErrFull},
		"as many as fit":               {have: many(ledger.MaxEntries - 1), add: []ledger.Entry{revoke("one-more", ledger.Held, 0)}},
		"more urgent, on record":       {have: many(ledger.MaxEntries), add: []ledger.Entry{revoke("token-007", ledger.Held, 0)}},
		"few, but too large together":  {add: wide, want: ledger.ErrFull},
		"large ones up to what a page": {add: wide[:30]},
	} {
		t.Run(sentence, func(t *testing.T) {
			before := page(t, tc.have...)
			after, err := before.Add(tc.add, noon)
			if !errors.Is(err, tc.want) {
				t.Fatalf("got %v, want %v", err, tc.want)
			}
			if err != nil && diff(before, after) != "" {
				t.Error("the page was changed all the same")
			}
			render(t, after)
		})
	}
}

func TestAPageIsFreedByWhatExpires(t *testing.T) {
	later := noon.Add(25 * time.Hour)
	one := revoke("one-more", ledger.Held, 0)
	one.Expires = later.Add(time.Hour)
	got, err := page(t, many(ledger.MaxEntries)...).Add([]ledger.Entry{one}, later)
	if err != nil || len(got.Entries) != 1 {
		t.Errorf("%d entries, %v", len(got.Entries), err)
	}
}

func TestNoEntryOutlivesWhatATokenCan(t *testing.T) {
	e := revoke("a", ledger.Deleted, 0)
	e.Expires = time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)
	if got := page(t, e).Entries[0].Expires; !got.Equal(noon.Add(30 * 24 * time.Hour)) {
		t.Errorf("it ends %v", got)
	}
}

func TestAnEntryThatCannotBeReadBackIsRefused(t *testing.T) {
	for sentence, spoil := range map[string]func(*ledger.Entry){
		"no token":                    func(e *ledger.Entry) { e.Value = token.Value{} },
		"a token that is no text":     func(e *ledger.Entry) { e.Value = token.NewValue("a\xff") },
		"a token of replaced letters": func(e *ledger.Entry) { e.Value = token.NewValue("a\ufffd") },
		"no end":                      func(e *ledger.Entry) { e.Expires = time.Time{} },
		"an end after all years":      func(e *ledger.Entry) { e.Expires = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC) },
		"a client that is no text":    func(e *ledger.Entry) { e.Client = "\xff" },
	} {
		t.Run(sentence, func(t *testing.T) {
			e := revoke("a", ledger.Held, 0)
			spoil(&e)
			before := page(t, revoke("b", ledger.Held, 0))
			after, err := before.Add([]ledger.Entry{e}, noon)
			if err == nil || diff(before, after) != "" {
				t.Errorf("error %v, page %v", err, told(after))
			}
		})
	}
}

func TestDue(t *testing.T) {
	p := page(t, revoke("later", ledger.Held, 1), revoke("deleted", ledger.Deleted, -9), revoke("narrowed", ledger.Narrowed, 0),
		revoke("held", ledger.Held, 0), revoke("denied-2", ledger.Denied, -2), revoke("denied-5", ledger.Denied, -5), revoke("unknown", "Later", -99))
	want := []string{"held", "denied-5", "denied-2", "narrowed", "deleted", "unknown"}
	var got, described []string
	for _, e := range p.Due(noon) {
		got = append(got, e.Value.Reveal())
	}
	for _, f := range p.Facts().Due(noon) {
		i := slices.IndexFunc(p.Entries, func(e ledger.Entry) bool { return e.Value.Fingerprint(grantUID) == f.Fingerprint })
		described = append(described, p.Entries[i].Value.Reveal())
	}
	if d := diff(want, got); d != "" {
		t.Errorf("the page (-want +got):\n%s", d)
	}
	if d := diff(want, described); d != "" {
		t.Errorf("its facts (-want +got):\n%s", d)
	}
	if due := p.Due(noon.Add(24 * time.Hour)); len(due) != 0 {
		t.Errorf("%d are due after they have expired", len(due))
	}
}

func TestNext(t *testing.T) {
	short := revoke("short", ledger.Narrowed, 90)
	short.Expires = noon.Add(time.Hour)
	for sentence, tc := range map[string]struct {
		entries []ledger.Entry
		at      time.Duration
		want    time.Duration // after noon
	}{
		"the first overlap to end":                     {entries: []ledger.Entry{revoke("a", ledger.Narrowed, 9), revoke("b", ledger.Narrowed, 5)}, want: 5 * time.Minute},
		"what is due is over when it expires":          {entries: []ledger.Entry{revoke("a", ledger.Narrowed, 0)}, want: 24 * time.Hour},
		"what expires before it is due is never due":   {entries: []ledger.Entry{short}, want: time.Hour},
		"what has expired is to be dropped, long ago":  {entries: []ledger.Entry{short}, at: 2 * time.Hour, want: time.Hour},
		"a due one does not hide one that comes later": {entries: []ledger.Entry{revoke("a", ledger.Held, 0), revoke("b", ledger.Narrowed, 5)}, want: 5 * time.Minute},
	} {
		t.Run(sentence, func(t *testing.T) {
			got := page(t, tc.entries...).Facts().Next(noon.Add(tc.at))
			if got.Sub(noon) != tc.want {
				t.Errorf("after %v, want %v", got.Sub(noon), tc.want)
			}
		})
	}
	if next := page(t).Facts().Next(noon); !next.IsZero() {
		t.Errorf("an empty page waits for %v", next)
	}
}

func TestWithout(t *testing.T) {
	short := revoke("short", ledger.Narrowed, 0)
	short.Expires = noon.Add(time.Hour)
	p := page(t, revoke("a", ledger.Held, 0), short, revoke("b", ledger.Deleted, 0))
	for sentence, tc := range map[string]struct {
		revoked []token.Value
		at      time.Duration
		want    []string
	}{
		"what was revoked goes":   {revoked: []token.Value{token.NewValue("a")}, want: []string{"short Narrowed 0s", "b Deleted 0s"}},
		"what has expired goes":   {at: time.Hour, want: []string{"a Held 0s", "b Deleted 0s"}},
		"a stranger is no matter": {revoked: []token.Value{token.NewValue("x")}, want: []string{"a Held 0s", "short Narrowed 0s", "b Deleted 0s"}},
		"in the end all goes":     {at: 24 * time.Hour},
	} {
		t.Run(sentence, func(t *testing.T) {
			got := p.Without(tc.revoked, noon.Add(tc.at))
			if d := diff(tc.want, told(got)); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
			if got.IsEmpty() != (len(tc.want) == 0) {
				t.Errorf("empty: %v", got.IsEmpty())
			}
		})
	}
}

func TestExpedite(t *testing.T) {
	p := page(t, revoke("a", ledger.Narrowed, 5), revoke("b", ledger.Held, -5))
	before := slices.Clone(p.Entries)
	got := p.Expedite(ledger.Denied, noon)
	if d := diff([]string{"a Denied 0s", "b Held -5m0s"}, told(got)); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	if diff(before, p.Entries) != "" {
		t.Error("the page that it was made from has changed")
	}
	if p.Facts().IsExpedited(ledger.Denied, noon) || !got.Facts().IsExpedited(ledger.Denied, noon) || got.Facts().IsExpedited(ledger.Held, noon) {
		t.Error("the facts do not say so")
	}
}

func TestHas(t *testing.T) {
	facts := page(t, revoke("a", ledger.Narrowed, 5)).Facts()
	expired := revoke("x", ledger.Held, 0)
	expired.Expires = noon
	for sentence, tc := range map[string]struct {
		entry ledger.Entry
		want  bool
	}{
		"the same":               {entry: revoke("a", ledger.Narrowed, 5), want: true},
		"later, for a lesser":    {entry: revoke("a", ledger.Deleted, 9), want: true},
		"earlier":                {entry: revoke("a", ledger.Narrowed, 4)},
		"more urgent":            {entry: revoke("a", ledger.Held, 5)},
		"another token":          {entry: revoke("b", ledger.Narrowed, 5)},
		"one that has its end":   {entry: expired, want: true},
		"whenever, which is now": {entry: ledger.Entry{Value: token.NewValue("a"), Expires: noon.Add(time.Hour), Why: ledger.Narrowed}},
	} {
		t.Run(sentence, func(t *testing.T) {
			if got := facts.Has([]ledger.Entry{tc.entry}, noon); got != tc.want {
				t.Errorf("%v, want %v", got, tc.want)
			}
		})
	}
}

func TestNothingPrintsAToken(t *testing.T) {
	const canary = "canary-token-7f3a"
	p := page(t, revoke(canary, ledger.Held, 0))
	damaged := render(t, p)
	damaged.Data[dataKey] = []byte(`[{"token":"` + canary + `"}, "` + canary + `"` + canary)
	broken := read(t, damaged)
	if len(broken.Rest) != 3 {
		t.Fatalf("%d pieces", len(broken.Rest))
	}
	var told strings.Builder
	for _, subject := range []any{p, &p, p.Entries, p.Entries[0], &p.Entries[0], p.Facts(), broken, broken.Rest, broken.Damage()} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
			fmt.Fprintf(&told, verb, subject)
		}
		text, err := json.Marshal(subject)
		if err != nil {
			t.Fatal(err)
		}
		told.Write(text)
	}
	for _, e := range []ledger.Entry{{Value: token.NewValue(canary)}, {Value: token.NewValue(canary + "\xff"), Expires: noon.Add(1)}} {
		_, err := p.Add([]ledger.Entry{e}, noon)
		fmt.Fprint(&told, err)
	}
	_, err := ledger.Page{GrantUID: grantUID, Entries: []ledger.Entry{{Value: token.NewValue(canary), Expires: time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC)}}}.Render("x")
	fmt.Fprint(&told, err)
	for _, form := range []string{canary, fmt.Sprintf("%x", canary), fmt.Sprintf("%X", canary)} {
		if strings.Contains(told.String(), form) {
			t.Errorf("it prints %q", form)
		}
	}
	if strings.Contains(fmt.Sprint(render(t, p).Annotations, render(t, p).Labels), canary) {
		t.Error("the metadata of the page tells the token")
	}
}

func TestWhatIsNoPageIsRefused(t *testing.T) {
	for sentence, spoil := range map[string]func(*corev1.Secret){
		"another type": func(s *corev1.Secret) { s.Type = corev1.SecretTypeOpaque },
		"another name": func(s *corev1.Secret) { s.Name = "press-07" },
	} {
		t.Run(sentence, func(t *testing.T) {
			secret := render(t, page(t, revoke("a", ledger.Held, 0)))
			spoil(secret)
			if p, err := ledger.Read(secret); err == nil {
				t.Errorf("read as %v", told(p))
			}
		})
	}
}
