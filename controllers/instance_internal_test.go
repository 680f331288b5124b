package controllers

import (
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mqtt-token-operator/mqtt-token-operator/api/v1alpha1"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/token"
)

// TestWhoHasTheKeySharesItsBudget and nobody who only knows its id: a small quota would slow the account down.
func TestWhoHasTheKeySharesItsBudget(t *testing.T) {
	r := &InstanceReconciler{Connections: NewConnections()}
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
}
