package controllers_test

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/mqtt-token-operator/mqtt-token-operator/api/v1alpha1"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/credsecret"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/token/tokenfake"
)

// TestOtherVersionsOfTheManagerCostNoToken has a manager meet the facts that an older and a newer one would have written,
// in a thousand Secrets: it brings them up to date, and applies for nothing.
func TestOtherVersionsOfTheManagerCostNoToken(t *testing.T) {
	size := 1000
	if testing.Short() {
		size = 50
	}
	w := newWorld(t)
	t.Cleanup(w.keepTime())
	w.credential("LTAI-one", "secret-one")
	i := w.instance()
	i.Spec.Quota.ApplyPerSecond = 100
	w.must(w.Create(t.Context(), i))
	w.run()
	w.eventuallyInstance(metav1.ConditionTrue, v1alpha1.ReasonConnected)
	w.apply(size)
	w.settled()
	w.stop()
	applies := len(w.service.Calls(tokenfake.Apply))
	var secrets corev1.SecretList
	w.must(w.List(t.Context(), &secrets, client.InNamespace(w.namespace), client.MatchingFields{"type": credsecret.Type}))
	for n := range secrets.Items {
		w.rewriteFacts(&secrets.Items[n], n%2 == 0)
	}
	w.run()
	for n := range secrets.Items { // one after the other: to list a thousand at each look would cost more than to rewrite them
		secret := &secrets.Items[n]
		w.eventually("an up to date Secret "+secret.Name, func() bool {
			w.must(w.Get(t.Context(), keyOf(secret), secret))
			facts, err := credsecret.ReadFacts(&secret.ObjectMeta)
			return err == nil && facts.Version == 2 && facts.InstanceUID != ""
		})
	}
	w.settled()
	if n := len(w.service.Calls(tokenfake.Apply)); n != applies || len(secrets.Items) != size {
		t.Errorf("%d applies for %d Secrets that another version wrote", n-applies, len(secrets.Items))
	}
	if n := w.revokes(); n != 0 {
		t.Errorf("%d revokes", n)
	}
}

// rewriteFacts makes the facts those of version 1, which knew less, or of a version to come, which knows more.
func (w *world) rewriteFacts(secret *corev1.Secret, older bool) {
	w.t.Helper()
	facts := map[string]any{}
	w.must(json.Unmarshal([]byte(secret.Annotations[credsecret.FactsAnnotation]), &facts))
	if older {
		facts["v"], facts["rendering"] = 1, "v1-of-before"
		delete(facts, "instance")
		delete(facts, "instanceUID")
	} else {
		facts["v"], facts["rendering"], facts["weather"] = 99, "v9-of-tomorrow", map[string]any{"sunny": true}
	}
	text, err := json.Marshal(facts)
	w.must(err)
	before := secret.DeepCopy()
	secret.Annotations[credsecret.FactsAnnotation] = string(text)
	w.must(w.Patch(w.t.Context(), secret, client.MergeFrom(before), client.FieldOwner(fmt.Sprintf("mqtt-token-grant-%s", secret.Annotations[credsecret.GrantUIDAnnotation]))))
}

// TestWhatAnOlderManagerMeantToRevokeGoesToTheLedger: version 1 revoked from the Secret itself.
func TestWhatAnOlderManagerMeantToRevokeGoesToTheLedger(t *testing.T) {
	w := readyWorld(t)
	w.issued("press-07")
	w.advance(17*time.Hour, "press-07")
	w.eventually("a renewal", func() bool { return w.grant("press-07").Status.Revision == 2 })
	w.settled()
	w.stop()
	secret := w.secret("press-07")
	before := secret.DeepCopy()
	at := w.clock.Now().Add(time.Minute)
	var retired []map[string]any
	w.must(json.Unmarshal(secret.Data["retired.json"], &retired))
	retired[0]["revokeAt"] = at
	text, err := json.Marshal(retired)
	w.must(err)
	secret.Data["retired.json"] = text
	facts, err := credsecret.ReadFacts(&secret.ObjectMeta)
	w.must(err)
	facts.Version, facts.Retired[0].RevokeAt = 1, at
	secret.Annotations[credsecret.FactsAnnotation], err = facts.Encode()
	w.must(err)
	w.must(w.Patch(t.Context(), secret, client.MergeFrom(before)))
	w.run()
	w.eventually("it is on its page", func() bool { p := w.page(w.grant("press-07")); return p != nil && len(p.Entries) == 1 })
	w.settled()
	if n := w.revokes(); n != 0 {
		t.Errorf("%d revokes before its time", n)
	}
	w.advance(2*time.Minute, "press-07")
	w.eventuallyLive(1)
	if n := len(w.service.Calls(tokenfake.Apply)); n != 2 {
		t.Errorf("%d applies for an upgrade", n-2)
	}
}
