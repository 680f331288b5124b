package credsecret_test

import (
	"errors"
	"maps"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mqtt-token-operator/mqtt-token-operator/internal/credsecret"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/token"
	"github.com/mqtt-token-operator/mqtt-token-operator/pkg/mqttcred"
)

// TestASecretWithoutTokens keeps the address and loses the way in; it reads back as what it is, and as damage it never is.
func TestASecretWithoutTokens(t *testing.T) {
	for sentence, tc := range map[string]struct {
		change   func(*credsecret.Layout)
		wantKeys []string
	}{
		"of format Files": {
			change: func(*credsecret.Layout) {},
			wantKeys: []string{
				mqttcred.KeyClientID, mqttcred.KeyHost, mqttcred.KeyPermissions, mqttcred.KeyPort, mqttcred.KeyRetired,
				mqttcred.KeyTokens, mqttcred.KeyURL, mqttcred.KeyUsername, mqttcred.KeyWSSURL,
			},
		},
		"of format Env": {
			change: func(l *credsecret.Layout) { l.Env = true },
			wantKeys: []string{
				mqttcred.EnvClientID, mqttcred.EnvHost, mqttcred.EnvRecord, mqttcred.EnvPort, mqttcred.EnvURL,
				mqttcred.EnvUsername, mqttcred.EnvWSSURL,
			},
		},
		"with a template, which would render to half a configuration": {
			change: func(l *credsecret.Layout) {
				l.Env, l.Templates = true, map[string]string{"bridge.conf": "remote_password {{ .Password }}"}
			},
			wantKeys: []string{
				mqttcred.EnvClientID, mqttcred.EnvHost, mqttcred.EnvRecord, mqttcred.EnvPort, mqttcred.EnvURL,
				mqttcred.EnvUsername, mqttcred.EnvWSSURL,
			},
		},
	} {
		t.Run(sentence, func(t *testing.T) {
			l := layout()
			tc.change(&l)
			secret := render(t, l, credsecret.Record{})
			slices.Sort(tc.wantKeys)
			if diff := cmp.Diff(tc.wantKeys, slices.Sorted(maps.Keys(secret.Data))); diff != "" {
				t.Error(diff)
			}
			keys, err := l.Keys(false)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.wantKeys, slices.Sorted(maps.Keys(keys))); diff != "" {
				t.Errorf("Keys says something else: %s", diff)
			}
			record, err := credsecret.ReadRecord(secret)
			if err != nil {
				t.Fatal(err)
			}
			facts, err := credsecret.ReadFacts(&secret.ObjectMeta)
			if err != nil {
				t.Fatal(err)
			}
			if !record.Matches(facts, grantUID) || len(facts.Tokens) != 0 || facts.Scope != token.ScopeID(nil) {
				t.Errorf("it reads back as %+v", facts)
			}
		})
	}
}

func TestAClientIsToldOfAWithdrawal(t *testing.T) {
	dir := t.TempDir()
	mount(t, dir, "v1", render(t, layout(), credsecret.Record{}))
	if _, err := mqttcred.Load(dir); !errors.Is(err, mqttcred.ErrWithdrawn) {
		t.Errorf("got %v, want ErrWithdrawn", err)
	}
	mount(t, dir, "v2", render(t, layout(), oneWay(t)))
	if _, err := mqttcred.Load(dir); err != nil {
		t.Errorf("with tokens: %v", err)
	}
}
