package credsecret_test

import (
	"encoding/base64"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"github.com/mqtt-token-operator/mqtt-token-operator/internal/credsecret"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/token"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/topic"
	"github.com/mqtt-token-operator/mqtt-token-operator/pkg/mqttcred"
)

// byContent compares tokens by their text, which token.Value hides from cmp.
func byContent() cmp.Options {
	return cmp.Options{
		cmp.Comparer(func(a, b token.Value) bool { return a == b }),
		cmp.Comparer(func(a, b topic.Filter) bool { return a == b }),
	}
}

func TestReadRecordReturnsWhatRenderWrote(t *testing.T) {
	for sentence, record := range map[string]credsecret.Record{
		"no token":  {},
		"one token": {Tokens: []credsecret.Issued{issued(t, token.PublishSubscribe, "text", "a")}},
		"two tokens, two retired ones, one to be revoked": oneWay(t),
		"three tokens of 100 topics": {Tokens: []credsecret.Issued{
			issued(t, token.Publish, "p", filters(100)...),
			issued(t, token.PublishSubscribe, "b", slices.Concat([]string{"both/#"}, filters(99))...),
			issued(t, token.Subscribe, "s", filters(100)...),
		}},
		"retired tokens only": {Retired: oneWay(t).Retired},
		"characters that JSON and HTML treat in their own way": {Tokens: []credsecret.Issued{
			issued(t, token.Publish, "<\"\\&\u2028é+/=", "<a>&\"b\"/\\/é"),
		}},
		"times below the second": {Tokens: []credsecret.Issued{{
			Scope: scope(t, token.Publish, "a"), Value: token.NewValue("x"), Issued: noon.Add(1), Expires: noon.Add(time.Hour + 999),
		}}},
	} {
		for format, env := range map[string]bool{"Files": false, "Env": true} {
			t.Run(sentence+" as "+format, func(t *testing.T) {
				l := layout()
				l.Env = env
				secret := render(t, l, record)
				got, err := credsecret.ReadRecord(secret)
				if err != nil {
					t.Fatal(err)
				}
				want := record
				want.Tokens = slices.SortedFunc(slices.Values(record.Tokens), byWireType)
				if diff := cmp.Diff(want, got, byContent()); diff != "" {
					t.Errorf("(-want +got):\n%s", diff)
				}
				facts, err := credsecret.ReadFacts(&secret.ObjectMeta)
				if err != nil {
					t.Fatal(err)
				}
				if !got.Matches(facts, grantUID) {
					t.Error("the record does not match the facts beside it")
				}
				if diff := cmp.Diff(got, got.Known(facts, grantUID), byContent()); diff != "" {
					t.Errorf("the facts do not know all of it:\n%s", diff)
				}
			})
		}
	}
}

// byWireType sorts as the Secret does: R, RW, W.
func byWireType(a, b credsecret.Issued) int {
	order := []token.Type{token.Subscribe, token.PublishSubscribe, token.Publish}
	return slices.Index(order, a.Scope.Type) - slices.Index(order, b.Scope.Type)
}

func TestReadRecordRefusesWhatRenderNeverWrites(t *testing.T) {
	const canary = "canary-5f1d"
	const token1 = `{"type":"R","token":"` + canary + `","issuedAt":"2026-03-01T12:00:00Z","expiresAt":"2026-03-02T12:00:00Z"}`
	retired := func(more string) string { return `[` + strings.TrimSuffix(token1, "}") + more + `}]` }
	for sentence, tc := range map[string]struct {
		key, value string
		remove     bool
	}{
		"no tokens.json":                     {key: mqttcred.KeyTokens, remove: true},
		"no permissions.json":                {key: mqttcred.KeyPermissions, remove: true},
		"no retired.json":                    {key: mqttcred.KeyRetired, remove: true},
		"tokens that are null":               {key: mqttcred.KeyTokens, value: `null`},
		"permissions that are null":          {key: mqttcred.KeyPermissions, value: `null`},
		"retired tokens that are null":       {key: mqttcred.KeyRetired, value: `null`},
		"a token that is null":               {key: mqttcred.KeyTokens, value: `[null]`},
		"no JSON":                            {key: mqttcred.KeyTokens, value: canary},
		"JSON of another form":               {key: mqttcred.KeyTokens, value: `"` + canary + `"`},
		"something after the JSON":           {key: mqttcred.KeyTokens, value: `[]` + canary},
		"two tokens of one type":             {key: mqttcred.KeyTokens, value: `[` + token1 + `,` + token1 + `]`},
		"a type that is none":                {key: mqttcred.KeyTokens, value: strings.Replace(`[`+token1+`]`, `"R"`, `"`+canary+`"`, 1)},
		"a token without text":               {key: mqttcred.KeyTokens, value: strings.Replace(`[`+token1+`]`, canary, "", 1)},
		"a token that never ends":            {key: mqttcred.KeyTokens, value: strings.Replace(`[`+token1+`]`, `"expiresAt":"2026-03-02T12:00:00Z"`, `"x":1`, 1)},
		"a time that is none":                {key: mqttcred.KeyTokens, value: strings.Replace(`[`+token1+`]`, `2026-03-02T12:00:00Z`, canary, 1)},
		"a time that UTC cannot write":       {key: mqttcred.KeyTokens, value: strings.Replace(`[`+token1+`]`, `2026-03-02T12:00:00Z`, "9999-12-31T23:00:00-02:00", 1)},
		"a token without topics":             {key: mqttcred.KeyPermissions, value: `[]`},
		"a filter with a comma":              {key: mqttcred.KeyPermissions, value: `[{"filter":"` + canary + `,b","types":["R","W"]}]`},
		"a retired token without topics":     {key: mqttcred.KeyRetired, value: retired(`,"topics":[]`)},
		"a retired token with a comma":       {key: mqttcred.KeyRetired, value: retired(`,"topics":["` + canary + `,b"]`)},
		"a revocation that UTC cannot write": {key: mqttcred.KeyRetired, value: retired(`,"topics":["a"],"revokeAt":"9999-12-31T23:00:00-02:00"`)},
		"more than a token carries":          {key: mqttcred.KeyRetired, value: retired(`,"topics":["` + strings.Join(filters(101), `","`) + `"]`)},
		"an environment that is no base64":   {key: mqttcred.EnvRecord, value: canary + "!"},
		"an environment that is no JSON":     {key: mqttcred.EnvRecord, value: base64.StdEncoding.EncodeToString([]byte(canary))},
		"an environment that is null":        {key: mqttcred.EnvRecord, value: base64.StdEncoding.EncodeToString([]byte("null"))},
	} {
		t.Run(sentence, func(t *testing.T) {
			secret := render(t, layout(), oneWay(t))
			secret.Data[tc.key] = []byte(tc.value)
			if tc.remove {
				delete(secret.Data, tc.key)
			}
			record, err := credsecret.ReadRecord(secret)
			if err == nil {
				t.Fatalf("accepted %d tokens", len(record.Tokens))
			}
			wantKey := tc.key
			if tc.key == mqttcred.KeyPermissions && tc.value != "null" && !tc.remove {
				wantKey = mqttcred.KeyTokens // whose topics they are
			}
			if text := err.Error(); !strings.Contains(text, wantKey) || strings.Contains(text, canary) {
				t.Errorf("error %q must name %s and quote nothing", text, wantKey)
			}
		})
	}
}

func TestReadRecordOfNothing(t *testing.T) {
	if _, err := credsecret.ReadRecord(&corev1.Secret{}); err == nil {
		t.Error("accepted an empty Secret")
	}
}

func TestRenderRefusesARecordThatCannotBeReadBack(t *testing.T) {
	const canary = "canary-5f1d"
	good := issued(t, token.Publish, "text", "a")
	with := func(change func(*credsecret.Issued)) credsecret.Issued {
		changed := good
		change(&changed)
		return changed
	}
	for sentence, record := range map[string]credsecret.Record{
		"two tokens of one type":   {Tokens: []credsecret.Issued{good, good}},
		"a token of no type":       {Tokens: []credsecret.Issued{with(func(t *credsecret.Issued) { t.Scope.Type = "" })}},
		"a token without topics":   {Tokens: []credsecret.Issued{with(func(t *credsecret.Issued) { t.Scope.Topics = nil })}},
		"a token without text":     {Tokens: []credsecret.Issued{with(func(t *credsecret.Issued) { t.Value = token.Value{} })}},
		"a text that holds a '|'":  {Tokens: []credsecret.Issued{with(func(t *credsecret.Issued) { t.Value = token.NewValue(canary + "|RW|x") })}},
		"a text that is no UTF-8":  {Tokens: []credsecret.Issued{with(func(t *credsecret.Issued) { t.Value = token.NewValue(canary + "\xff") })}},
		"a token without an end":   {Tokens: []credsecret.Issued{with(func(t *credsecret.Issued) { t.Expires = time.Time{} })}},
		"an end after year 9999":   {Tokens: []credsecret.Issued{with(func(t *credsecret.Issued) { t.Expires = noon.AddDate(9000, 0, 0) })}},
		"a retired one like these": {Retired: []credsecret.Retired{{Issued: with(func(t *credsecret.Issued) { t.Value = token.Value{} })}}},
	} {
		t.Run(sentence, func(t *testing.T) {
			_, err := layout().Render(record, credsecret.Facts{}, noon)
			if err == nil {
				t.Fatal("rendered")
			}
			if strings.Contains(err.Error(), canary) {
				t.Errorf("error %q quotes the token", err)
			}
		})
	}
}

func TestRecordTimes(t *testing.T) {
	early, late := issued(t, token.Publish, "p", "a"), issued(t, token.Subscribe, "s", "a")
	late.Issued, late.Expires = late.Issued.Add(time.Minute), late.Expires.Add(time.Minute)
	record := credsecret.Record{Tokens: []credsecret.Issued{late, early}}
	if got := record.Expires(); !got.Equal(early.Expires) {
		t.Errorf("expires %s, want the first end", got)
	}
	if got := record.Issued(); !got.Equal(late.Issued) {
		t.Errorf("issued %s, want the last issue", got)
	}
	if (credsecret.Record{}).Expires() != (time.Time{}) || (credsecret.Record{}).Issued() != (time.Time{}) {
		t.Error("a record without tokens has times")
	}
}
