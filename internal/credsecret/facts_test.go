package credsecret_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mqtt-token-operator/mqtt-token-operator/internal/credsecret"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/token"
)

func TestFactsDescribeTheSecret(t *testing.T) {
	record := oneWay(t)
	secret := render(t, layout(), record)
	got, err := credsecret.ReadFacts(&secret.ObjectMeta)
	if err != nil {
		t.Fatal(err)
	}
	fingerprint := func(text string) string { return token.NewValue(text).Fingerprint(grantUID) }
	end := noon.Add(24 * time.Hour)
	want := credsecret.Facts{
		Version: 2, Generation: 3, Revision: 7, Reissue: "now",
		Scope: token.ScopeID(record.Scopes()), Client: "post-cn-1/GID_line_a@@@press-07", Instance: "mqtt-system/factory", KeyID: "LTAI1",
		Rendering: layout().ID(), Issued: noon,
		Tokens: []credsecret.TokenFacts{
			{Type: token.Subscribe, TopicCount: 2, Issued: noon, Expires: end, Fingerprint: fingerprint("subscribe-text")},
			{Type: token.Publish, TopicCount: 2, Issued: noon, Expires: end, Fingerprint: fingerprint("publish-text")},
		},
		Retired: []credsecret.RetiredFacts{
			{Expires: end, RevokeAt: noon.Add(5 * time.Minute), Fingerprint: fingerprint("old-publish-text")},
			{Expires: end, Fingerprint: fingerprint("old-subscribe-text")},
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for _, text := range []string{"publish-text", "subscribe-text"} {
		for key, value := range secret.Annotations {
			if strings.Contains(value, text) {
				t.Errorf("annotation %s holds a token", key)
			}
		}
	}
}

func TestReadFacts(t *testing.T) {
	const canary = "canary-77aa"
	for sentence, tc := range map[string]struct {
		text    string
		missing bool
		want    credsecret.Facts
		wantErr bool
	}{
		"a later version with fields of its own":    {text: `{"v":99,"revision":2,"weather":{"a":[1]}}`, want: credsecret.Facts{Version: 99, Revision: 2}},
		"a version and nothing else":                {text: `{"v":1}`, want: credsecret.Facts{Version: 1}},
		"no annotation":                             {missing: true, wantErr: true},
		"an empty one":                              {text: "", wantErr: true},
		"no JSON":                                   {text: canary, wantErr: true},
		"JSON of another form":                      {text: `{"v":"` + canary + `"}`, wantErr: true},
		"null":                                      {text: `null`, wantErr: true},
		"no version":                                {text: `{"revision":1}`, wantErr: true},
		"a negative version":                        {text: `{"v":-1}`, wantErr: true},
		"a time that is none":                       {text: `{"v":1,"issued":"` + canary + `"}`, wantErr: true},
		"a time that UTC cannot write":              {text: `{"v":1,"issued":"9999-12-31T23:00:00-02:00"}`, wantErr: true},
		"a negative revision":                       {text: `{"v":1,"revision":-1}`, wantErr: true},
		"a revision that is about to overflow":      {text: `{"v":1,"revision":9223372036854775807}`, wantErr: true},
		"more topics than a token carries":          {text: `{"v":1,"tokens":[{"topics":101,"expires":"2026-03-01T12:00:00Z"}]}`, wantErr: true},
		"a token without an end":                    {text: `{"v":1,"tokens":[{"topics":1}]}`, wantErr: true},
		"a retired token without an end":            {text: `{"v":1,"retired":[{}]}`, wantErr: true},
		"a retired token with an unwritable moment": {text: `{"v":1,"retired":[{"expires":"9999-12-31T23:00:00-02:00"}]}`, wantErr: true},
	} {
		t.Run(sentence, func(t *testing.T) {
			meta := &metav1.ObjectMeta{Annotations: map[string]string{credsecret.FactsAnnotation: tc.text}}
			if tc.missing {
				meta.Annotations = nil
			}
			got, err := credsecret.ReadFacts(meta)
			if (err != nil) != tc.wantErr {
				t.Fatalf("error %v, want one: %t", err, tc.wantErr)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if err != nil && (!strings.Contains(err.Error(), credsecret.FactsAnnotation) || strings.Contains(err.Error(), canary)) {
				t.Errorf("error %q must name the annotation and quote nothing", err)
			}
		})
	}
}
