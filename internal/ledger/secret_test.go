package ledger_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mqtt-token-operator/mqtt-token-operator/internal/ledger"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/token"
)

func TestAPageReadsAsItWasWritten(t *testing.T) {
	plain := revoke("plain", ledger.Narrowed, 5)
	scoped := revoke(`text with "quotes", <angles> and \ 線`, ledger.Held, 0)
	scoped.Scope = scope(t, "a", "b/#")
	precise := revoke("precise", "Later", 0)
	precise.RevokeAt = noon.Add(1234567 * time.Nanosecond).In(time.FixedZone("x", 3600))
	p := page(t, plain, scoped, precise)
	secret := render(t, p)
	if d := diff(p, read(t, secret)); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	facts, err := ledger.ReadFacts(&secret.ObjectMeta)
	if err != nil {
		t.Fatal(err)
	}
	if d := diff(p.Facts(), facts); d != "" {
		t.Errorf("facts (-want +got):\n%s", d)
	}
	if secret.Type != ledger.Type || secret.Name != ledger.Name(grantUID) || secret.Labels[ledger.Label] != "line-a" || len(secret.OwnerReferences) != 0 {
		t.Errorf("the Secret is %s %s, labels %v, owners %v", secret.Type, secret.Name, secret.Labels, secret.OwnerReferences)
	}
}

func TestADamagedPageKeepsWhatIsAlive(t *testing.T) {
	const good = `{"token":"a","client":"c/d","instance":"n/i","expires":"2026-03-02T12:00:00Z","revokeAt":"2026-03-01T12:00:00Z","why":"Held"}`
	for sentence, tc := range map[string]struct {
		payload string
		noFacts bool
		want    []string
	}{
		"another entry beside it that lacks its token": {
			payload: `[{"expires":"2026-03-02T12:00:00Z"},` + good + `]`,
			want:    []string{"a Held 0s", "lost Narrowed 24h0m0s", `rest {"expires":"2026-03-02T12:00:00Z"}`},
		},
		"an entry of another shape": {
			payload: `[7,` + good + `]`, want: []string{"a Held 0s", "lost Narrowed 24h0m0s", "rest 7"},
		},
		"an entry that is no text": {
			payload: "[" + good + `,{"token":"b` + "\xff" + `","expires":"2026-03-02T12:00:00Z"}]`,
			want:    []string{"a Held 0s", "lost Narrowed 24h0m0s", `rest {"token":"b` + "\xff" + `","expires":"2026-03-02T12:00:00Z"}`},
		},
		"an entry of half a letter": {
			payload: "[" + good + `,{"token":"b\ud800","expires":"2026-03-02T12:00:00Z"}]`,
			want:    []string{"a Held 0s", "lost Narrowed 24h0m0s", `rest {"token":"b\ud800","expires":"2026-03-02T12:00:00Z"}`},
		},
		"cut off": {
			payload: "[" + good + `,{"token":"b`,
			want:    []string{"a Held 0s", "lost Narrowed 24h0m0s", `rest ",{\"token\":\"b"`},
		},
		"with something after the end": {
			payload: "[" + good + `] and more`, want: []string{"a Held 0s", "lost Narrowed 24h0m0s", `rest " and more"`},
		},
		"no list at all": {
			payload: good, want: []string{"lost Held 24h0m0s", "lost Narrowed 24h0m0s", "rest " + quoted(t, good)},
		},
		"nothing there": {want: []string{"lost Held 24h0m0s", "lost Narrowed 24h0m0s"}},
		"an empty list": {payload: "[]", want: []string{"lost Held 24h0m0s", "lost Narrowed 24h0m0s"}},
		"nothing there and no facts: a token could live for thirty days": {noFacts: true, want: []string{"lost  720h0m0s"}},
		"garbage beside an entry and no facts":                           {payload: "[" + good + `,7]`, noFacts: true, want: []string{"a Held 0s", "lost  720h0m0s", "rest 7"}},
		"entries that can be read and no facts":                          {payload: "[" + good + `]`, noFacts: true, want: []string{"a Held 0s"}},
	} {
		t.Run(sentence, func(t *testing.T) {
			secret := render(t, page(t, revoke("a", ledger.Held, 0), revoke("b", ledger.Narrowed, 5)))
			secret.Data[dataKey] = []byte(tc.payload)
			if tc.noFacts {
				secret.Annotations = nil
			}
			got := read(t, secret).Without(nil, noon)
			if d := diff(tc.want, told(got)); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
			if damaged := len(got.Lost)+len(got.Rest) > 0; (got.Damage() != nil) != damaged {
				t.Errorf("damage told: %v", got.Damage())
			}
			again := read(t, render(t, got))
			if d := diff(told(got), told(again)); d != "" {
				t.Errorf("written again, it reads differently (-first +second):\n%s", d)
			}
			if end := again.Without(nil, noon.Add(31*24*time.Hour)); !end.IsEmpty() || end.Damage() != nil {
				t.Errorf("in the end there is %v", told(end))
			}
			if found := again.Facts().Due(noon); len(found) != len(got.Entries) {
				t.Errorf("%d are due, %d can be revoked", len(found), len(got.Entries))
			}
		})
	}
}

func quoted(t *testing.T, text string) string {
	t.Helper()
	out, err := json.Marshal(text)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

func TestALostTokenThatComesBackIsRevoked(t *testing.T) {
	whole := render(t, page(t, revoke("a", ledger.Held, 0)))
	damaged := whole.DeepCopy()
	damaged.Data = nil
	kept := render(t, read(t, damaged).Without(nil, noon))
	kept.Data = whole.Data // somebody restores the backup
	if d := diff([]string{"a Held 0s"}, told(read(t, kept))); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

func TestALaterVersionIsUnderstoodAsFarAsItGoes(t *testing.T) {
	const payload = `[{"token":"a","type":"PublishTwice","topics":["x"],"client":"c/d","instance":"n/i","expires":"2026-03-02T12:00:00Z","revokeAt":"2026-03-01T12:00:00Z","why":"Audited","more":1},
		{"token":"b","type":"Publish","topics":["a//+x"],"client":"c/d","instance":"n/i","expires":"2026-03-02T12:00:00Z"}]`
	const facts = `{"v":9,"grant":"line-a/press-07","uid":"` + grantUID + `","colour":"red","entries":[]}`
	secret := render(t, page(t))
	secret.Data[dataKey], secret.Annotations[ledger.FactsAnnotation] = []byte(payload), facts
	p := read(t, secret)
	if p.Damage() != nil || len(p.Due(noon)) != 2 || p.Entries[0].Why != "Audited" || p.Grant != "line-a/press-07" {
		t.Errorf("damage %v, entries %+v", p.Damage(), p.Entries)
	}
}

func TestWhatCannotBeUnderstoodGivesWayToWhatMustBeWritten(t *testing.T) {
	p := page(t, revoke("a", ledger.Held, 0))
	p.Lost = []ledger.EntryFacts{{Fingerprint: "f", Expires: noon.Add(time.Hour)}}
	p.Rest = []token.Value{token.NewValue(quoted(t, strings.Repeat("x", ledger.MaxSize)))}
	if got := read(t, render(t, p)); len(got.Entries) != 1 || len(got.Lost) != 1 || len(got.Rest) != 0 {
		t.Errorf("%d entries, %d lost, %d pieces of rest", len(got.Entries), len(got.Lost), len(got.Rest))
	}
}

func TestFactsThatNobodyWroteAreRefused(t *testing.T) {
	const uid = `"uid":"` + grantUID + `"`
	for sentence, text := range map[string]string{
		"no version":             `{` + uid + `}`,
		"no JSON":                `v1`,
		"those of another grant": `{"v":1,"uid":"another"}`,
		"a token without an end": `{"v":1,` + uid + `,"entries":[{"fingerprint":"f"}]}`,
		"a year that cannot be":  `{"v":1,` + uid + `,"entries":[{"expires":"9999-12-31T23:59:59-23:59"}]}`,
	} {
		t.Run(sentence, func(t *testing.T) {
			meta := metav1.ObjectMeta{Name: ledger.Name(grantUID), Annotations: map[string]string{ledger.FactsAnnotation: text}}
			if facts, err := ledger.ReadFacts(&meta); err == nil {
				t.Errorf("read as %+v", facts)
			}
		})
	}
	if _, err := ledger.ReadFacts(&metav1.ObjectMeta{Name: ledger.Name(grantUID)}); err == nil {
		t.Error("facts were read where there are none")
	}
}

func TestALabelHoldsOnlyANamespace(t *testing.T) {
	for grant, want := range map[string]string{
		"line-a/press-07": "line-a", "": "", "Line A/x": "", "-a/x": "", "a-/x": "", strings.Repeat("a", 64) + "/x": "",
	} {
		if got := render(t, ledger.Page{Grant: grant, GrantUID: grantUID}).Labels[ledger.Label]; got != want {
			t.Errorf("%q gives %q, want %q", grant, got, want)
		}
	}
}
