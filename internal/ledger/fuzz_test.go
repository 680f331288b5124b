package ledger_test

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mqtt-token-operator/mqtt-token-operator/internal/ledger"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/token"
)

// FuzzRead: whatever stands in a page, what was read can be written, and then reads the same; nothing that is alive by
// the facts or by the entries is forgotten.
func FuzzRead(f *testing.F) {
	whole := render(f, page(f, revoke("a", ledger.Held, 0), revoke("b", ledger.Narrowed, 5)))
	facts, payload := whole.Annotations[ledger.FactsAnnotation], whole.Data[dataKey]
	f.Add(payload, facts)
	f.Add(payload[:len(payload)/2], facts)
	f.Add([]byte("[]"), facts)
	f.Add([]byte(`[1,"x",{"token":"a"},null]`), facts)
	f.Add([]byte("null"), "")
	f.Add([]byte(`[] []`), `{"v":2,"uid":"`+grantUID+`","entries":[{"expires":"2026-03-02T12:00:00+01:00","lost":true}]}`)
	f.Fuzz(func(t *testing.T, payload []byte, facts string) {
		secret := &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Name: ledger.Name(grantUID), Annotations: map[string]string{ledger.FactsAnnotation: facts}},
			Type:       ledger.Type, Data: map[string][]byte{dataKey: payload},
		}
		p, err := ledger.Read(secret)
		if err != nil {
			t.Fatal(err)
		}
		described, err := ledger.ReadFacts(&secret.ObjectMeta)
		if err == nil && len(p.Entries)+len(p.Lost) < len(distinct(described)) {
			t.Error("a token of the facts is forgotten")
		}
		kept := p.Without(nil, noon)
		if written, err := kept.Render("x"); err == nil {
			if d := diff(kept, read(t, written)); d != "" {
				t.Errorf("it does not read the same (-first +second):\n%s", d)
			}
		} else if len(payload)+len(facts) < 10<<10 {
			t.Errorf("read, but not written again: %v", err)
		}
	})
}

func distinct(facts ledger.Facts) map[string]bool {
	fingerprints := map[string]bool{}
	for _, e := range facts.Entries {
		fingerprints[e.Fingerprint] = true
	}
	return fingerprints
}

// FuzzMerge: the order in which entries come changes neither which tokens are on the page nor when and why they go.
func FuzzMerge(f *testing.F) {
	f.Add(uint8(0), int16(0), uint8(3), int16(5))
	f.Add(uint8(200), int16(-7), uint8(6), int16(-7))
	f.Fuzz(func(t *testing.T, whyA uint8, atA int16, whyB uint8, atB int16) {
		whys := append(ledger.Whys(), "Later")
		a := revoke("same", whys[int(whyA)%len(whys)], int(atA))
		b := revoke("same", whys[int(whyB)%len(whys)], int(atB))
		one, other := page(t, a, b), page(t, b, a)
		if d := diff(told(one), told(other)); d != "" {
			t.Errorf("(-a,b +b,a):\n%s", d)
		}
		if !one.Facts().Has([]ledger.Entry{a, b}, noon) {
			t.Error("what was added does not count as on record")
		}
		if d := diff(told(one), told(page(t, a).Expedite(b.Why, b.RevokeAt))); d != "" {
			t.Errorf("adding and expediting differ:\n%s", d)
		}
		at := noon.Add(time.Duration(max(atA, atB)) * time.Minute)
		if due := one.Due(at); len(due) > 0 && !one.Without([]token.Value{due[0].Value}, at).IsEmpty() {
			t.Error("what was revoked is still there")
		}
	})
}
