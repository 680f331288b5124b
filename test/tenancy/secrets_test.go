package tenancy_test

import (
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/mqtt-token-operator/mqtt-token-operator/api/v1alpha1"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/credsecret"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/ledger"
	"github.com/mqtt-token-operator/mqtt-token-operator/test/cluster"
)

// aboutSecrets tampers with token Secrets, which every tenant may write.
func aboutSecrets() map[string]func(attack) {
	template := func(name, text string) func(attack) {
		return func(a attack) {
			a.create(a.grant(home, name, func(g *v1alpha1.MqttTokenGrant) { g.Spec.Secret.Template = map[string]string{"conf": text} }))
			if answer := a.answered(name, v1alpha1.ReasonTemplateInvalid); !strings.Contains(answer, `"conf"`) {
				a.t.Errorf("the answer names no key: %s", answer)
			}
			if n := a.live("factory/" + home + "/" + name); n > 0 {
				a.t.Errorf("%d tokens were issued for a Secret that cannot be rendered", n)
			}
		}
	}
	return map[string]func(attack){
		"the manager's environment, by a template": template("env", `{{ env "ALIBABA_CLOUD_ACCESS_KEY_SECRET" }}`),
		"a file, by a template":                    template("file", `{{ readFile "/var/run/secrets/kubernetes.io/serviceaccount/token" }}`),
		"the manager's memory, by a template":      template("memory", `{{ printf "%999999999s" .Username }}`),
		"the manager's time, by a template":        template("loop", `{{ range $i, $c := .Password }}{{ $c }}{{ end }}`),
		"another template, by a template":          template("include", `{{ define "x" }}{{ template "x" . }}{{ end }}{{ template "x" . }}`),
		"what grows with each step, by a template": template("grow", "{{ "+strings.Repeat("json (", 20)+`"\"\"\"\""`+strings.Repeat(")", 20)+" }}"),
		"a key of the operator's, by a template": func(a attack) {
			a.create(a.grant(home, "reserved", func(g *v1alpha1.MqttTokenGrant) { g.Spec.Secret.Template = map[string]string{"password": "mine"} }))
			a.answered("reserved", v1alpha1.ReasonTemplateInvalid)
		},
		"a Secret of the name that was there first":      foreignSecret,
		"the tokens of a grant, by deleting a copy":      copiedSecret,
		"pages of the ledger, by made-up Secrets":        madeUpSecret,
		"a wider scope, by forged facts":                 forgedScope,
		"the account's quota, by damage again and again": damagedSecret,
		"someone else's Secret, by its owner reference": func(a attack) {
			a.create(a.grant(home, "owner"))
			a.served(home, "owner")
			a.editSecret("owner", func(s *corev1.Secret) {
				s.OwnerReferences[0].UID, s.OwnerReferences[0].BlockOwnerDeletion = "another", nil
			})
			a.eventually("it is the grant's again, or a new one", func() string {
				secret := &corev1.Secret{}
				err := a.Get(a.t.Context(), client.ObjectKey{Namespace: home, Name: "owner"}, secret)
				if err != nil || secret.OwnerReferences[0].UID == "another" {
					return "it is another's"
				}
				return ""
			})
			if n := a.issued("factory/" + home + "/owner"); n > 2 {
				a.t.Errorf("%d tokens were issued", n)
			}
		},
	}
}

func foreignSecret(a attack) {
	theirs := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: home, Name: "foreign"}, StringData: map[string]string{"password": "theirs"}}
	a.create(theirs)
	a.create(a.grant(home, "foreign"))
	a.answered("foreign", v1alpha1.ReasonSecretConflict)
	must(a.t, a.Get(a.t.Context(), client.ObjectKeyFromObject(theirs), theirs))
	if string(theirs.Data["password"]) != "theirs" || a.live("factory/"+home+"/foreign") > 0 {
		a.t.Error("the Secret was overwritten, or a token issued for it")
	}
}

func copiedSecret(a attack) {
	a.create(a.grant(home, "original"))
	a.served(home, "original")
	original := &corev1.Secret{}
	must(a.t, a.mallory.Get(a.t.Context(), client.ObjectKey{Namespace: home, Name: "original"}, original))
	copied := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: home, Name: "copy", Labels: original.Labels, Annotations: original.Annotations, Finalizers: original.Finalizers,
		},
		Type: original.Type, Data: original.Data,
	}
	a.create(copied)
	must(a.t, a.mallory.Delete(a.t.Context(), copied))
	a.eventually("the copy goes", func() string {
		if err := a.Get(a.t.Context(), client.ObjectKeyFromObject(copied), copied); !apierrors.IsNotFound(err) {
			return "it is there"
		}
		return ""
	})
	if n := a.live("factory/" + home + "/original"); n != 1 {
		a.t.Errorf("%d tokens of the grant are alive", n)
	}
}

func madeUpSecret(a attack) {
	a.create(a.grant(home, "pattern"))
	a.served(home, "pattern")
	pattern := &corev1.Secret{}
	must(a.t, a.mallory.Get(a.t.Context(), client.ObjectKey{Namespace: home, Name: "pattern"}, pattern))
	for _, name := range []string{"made-up-1", "made-up-2"} {
		secret := &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Namespace: home, Name: name, Labels: map[string]string{credsecret.GrantLabel: name}, Annotations: map[string]string{}, Finalizers: pattern.Finalizers},
			Type:       pattern.Type, Data: pattern.Data,
		}
		for key, value := range pattern.Annotations {
			secret.Annotations[key] = strings.ReplaceAll(value, platform+"/factory", platform+"/private")
		}
		secret.Annotations[credsecret.GrantUIDAnnotation] = name
		a.create(secret)
		must(a.t, a.mallory.Delete(a.t.Context(), secret))
		a.eventually("it goes", func() string {
			if err := a.Get(a.t.Context(), client.ObjectKeyFromObject(secret), secret); !apierrors.IsNotFound(err) {
				return "it is there"
			}
			return ""
		})
		page := &corev1.Secret{}
		if err := a.Get(a.t.Context(), client.ObjectKey{Namespace: cluster.ManagerAccount().Namespace, Name: ledger.Name(name)}, page); !apierrors.IsNotFound(err) {
			a.t.Errorf("the ledger has a page for it: %v", err)
		}
	}
}

// forgedScope claims that the Secret holds tokens for something else, and would have the operator believe so.
func forgedScope(a attack) {
	a.create(a.grant(home, "scope"))
	a.served(home, "scope")
	a.editSecret("scope", func(s *corev1.Secret) {
		s.Annotations[credsecret.FactsAnnotation] = strings.Replace(s.Annotations[credsecret.FactsAnnotation], `"scope":"`, `"scope":"x`, 1)
	})
	a.eventually("it is made good", func() string {
		secret := &corev1.Secret{}
		must(a.t, a.Get(a.t.Context(), client.ObjectKey{Namespace: home, Name: "scope"}, secret))
		if strings.Contains(secret.Annotations[credsecret.FactsAnnotation], `"scope":"x`) {
			return "the forged facts are there"
		}
		return ""
	})
	if n := a.issued("factory/" + home + "/scope"); n > 2 {
		a.t.Errorf("%d tokens were issued, want at most one more than the first", n)
	}
}

// damagedSecret makes the operator reissue: once in the floor between two issues, however often somebody damages it.
func damagedSecret(a attack) {
	a.create(a.grant(home, "damaged"))
	a.served(home, "damaged")
	for range 8 {
		a.editSecret("damaged", func(s *corev1.Secret) { s.Data["password"] = []byte("W|damage") })
	}
	a.eventually("it is made good", func() string {
		secret := &corev1.Secret{}
		must(a.t, a.Get(a.t.Context(), client.ObjectKey{Namespace: home, Name: "damaged"}, secret))
		if string(secret.Data["password"]) == "W|damage" {
			return "it is damaged"
		}
		return ""
	})
	if n := a.issued("factory/" + home + "/damaged"); n > 3 {
		a.t.Errorf("%d tokens were issued", n)
	}
}

// issued counts the tokens that were ever issued for a topic.
func (a attack) issued(topic string) (count int) {
	for _, held := range a.cloud.State().Tokens() {
		if slices.Contains(held.Topics, topic) {
			count++
		}
	}
	return count
}
