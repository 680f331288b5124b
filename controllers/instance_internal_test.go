package controllers

import (
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mqtt-token-operator/mqtt-token-operator/api/v1alpha1"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/token"
)

// TestWhoHasTheKeySharesItsBudget and nobody who only knows its id: a small quota would slow the account down.
func TestWhoHasTheKeySharesItsBudget(t *testing.T) {
	r := &InstanceReconciler{Connections: NewConnections(), accounts: newAccounts()}
	join := func(name, secret string) *link {
		instance := &v1alpha1.MqttInstance{ObjectMeta: metav1.ObjectMeta{Namespace: "mqtt-system", Name: name}}
		return r.newLink(nil, token.Connection{AccessKeyID: "LTAI-one", AccessKeySecret: token.NewValue(secret)}, instance, "", guardStart())
	}
	first := join("factory", "secret-one")
	if join("office", "secret-one").budget != first.budget {
		t.Error("two instances of one account have a budget each")
	}
	if join("squatter", "a guess").budget == first.budget {
		t.Error("a wrong secret shares the budget")
	}
	for _, secret := range []string{"secret-one", "secret-two"} { // two keys of one account, as the service says
		r.accounts.learn(token.Connection{AccessKeyID: "LTAI-one", AccessKeySecret: token.NewValue(secret)}, "1001", guardStart())
	}
	if a, b := join("factory", "secret-one"), join("rotated", "secret-two"); a.budget != b.budget || a.account != "1001" {
		t.Errorf("two keys of one account have a budget each, accounts %q and %q", a.account, b.account)
	}
}
