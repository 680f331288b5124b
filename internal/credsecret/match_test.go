package credsecret_test

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mqtt-token-operator/mqtt-token-operator/internal/credsecret"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/token"
)

func TestEditsOfThePayload(t *testing.T) {
	for sentence, tc := range map[string]struct {
		edit                    func(*credsecret.Record)
		wantMatch               bool
		wantTokens, wantRetired []string
	}{
		"none": {
			edit: func(*credsecret.Record) {}, wantMatch: true,
			wantTokens: []string{"subscribe-text", "publish-text"}, wantRetired: []string{"old-publish-text", "old-subscribe-text"},
		},
		"a token of one's own choice": {
			edit: func(r *credsecret.Record) {
				r.Retired = append(r.Retired, credsecret.Retired{Issued: issued(t, token.Publish, "neighbour", "a")})
			},
			wantTokens: []string{"subscribe-text", "publish-text"}, wantRetired: []string{"old-publish-text", "old-subscribe-text"},
		},
		"a token in place of another": {
			edit:       func(r *credsecret.Record) { r.Tokens[0].Value = token.NewValue("neighbour") },
			wantTokens: []string{"publish-text"}, wantRetired: []string{"old-publish-text", "old-subscribe-text"},
		},
		"a token taken out": {
			edit:       func(r *credsecret.Record) { r.Tokens = r.Tokens[1:] },
			wantTokens: []string{"publish-text"}, wantRetired: []string{"old-publish-text", "old-subscribe-text"},
		},
		"a retired token a hundred times": {
			edit:       func(r *credsecret.Record) { r.Retired = slices.Repeat(r.Retired, 100) },
			wantTokens: []string{"subscribe-text", "publish-text"}, wantRetired: []string{"old-publish-text", "old-subscribe-text"},
		},
		"a token in use among the retired ones": {
			edit: func(r *credsecret.Record) {
				r.Retired = append(r.Retired, credsecret.Retired{Issued: r.Tokens[0]})
			},
			wantTokens: []string{"subscribe-text", "publish-text"}, wantRetired: []string{"old-publish-text", "old-subscribe-text"},
		},
		"a retired token among those in use": {
			edit: func(r *credsecret.Record) {
				r.Tokens, r.Retired = append(r.Tokens, r.Retired[0].Issued), r.Retired[1:]
			},
			wantTokens: []string{"subscribe-text", "publish-text"}, wantRetired: []string{"old-publish-text", "old-subscribe-text"},
		},
		"another end": {
			edit:       func(r *credsecret.Record) { r.Tokens[0].Expires = noon },
			wantTokens: []string{"subscribe-text", "publish-text"}, wantRetired: []string{"old-publish-text", "old-subscribe-text"},
		},
		"no revocation": {
			edit:       func(r *credsecret.Record) { r.Retired[0].RevokeAt = time.Time{} },
			wantTokens: []string{"subscribe-text", "publish-text"}, wantRetired: []string{"old-publish-text", "old-subscribe-text"},
		},
		"other topics": {
			edit:       func(r *credsecret.Record) { r.Tokens[0].Scope = scope(t, token.Subscribe, "x", "y") },
			wantTokens: []string{"subscribe-text", "publish-text"}, wantRetired: []string{"old-publish-text", "old-subscribe-text"},
		},
	} {
		t.Run(sentence, func(t *testing.T) {
			secret := render(t, layout(), oneWay(t))
			facts, err := credsecret.ReadFacts(&secret.ObjectMeta)
			if err != nil {
				t.Fatal(err)
			}
			record, err := credsecret.ReadRecord(secret)
			if err != nil {
				t.Fatal(err)
			}
			tc.edit(&record)
			if got := record.Matches(facts, grantUID); got != tc.wantMatch {
				t.Errorf("matches: %t", got)
			}
			known := record.Known(facts, grantUID)
			var tokens, retired []string
			for _, held := range known.Tokens {
				tokens = append(tokens, held.Value.Reveal())
				if want := noon.Add(24 * time.Hour); !held.Expires.Equal(want) {
					t.Errorf("the end is the payload's: %s", held.Expires)
				}
			}
			for _, old := range known.Retired {
				retired = append(retired, old.Value.Reveal())
				if want := old.Value.Reveal() == "old-publish-text"; old.RevokeAt.IsZero() == want {
					t.Errorf("the moment of revocation is the payload's: %s", old.RevokeAt)
				}
			}
			if diff := cmp.Diff([][]string{tc.wantTokens, tc.wantRetired}, [][]string{tokens, retired}); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestFactsOfAnotherGrantKnowNothing(t *testing.T) {
	secret := render(t, layout(), oneWay(t))
	facts, err := credsecret.ReadFacts(&secret.ObjectMeta)
	if err != nil {
		t.Fatal(err)
	}
	if known := oneWay(t).Known(facts, "another-uid"); len(known.Tokens)+len(known.Retired) > 0 {
		t.Error("fingerprints must be keyed by the grant")
	}
}
