package controllers_test

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/mqtt-token-operator/mqtt-token-operator/api/v1alpha1"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/token/tokenfake"
)

func TestNothingIsAllowedWithoutARule(t *testing.T) {
	w := newWorld(t)
	w.credential("LTAI-one", "secret-one")
	i := w.instance()
	i.Spec.AccessRules = nil
	w.must(w.Create(t.Context(), i))
	w.run()
	w.press("press-07")
	w.eventuallyCondition("press-07", v1alpha1.AuthorizedCondition, metav1.ConditionFalse, v1alpha1.ReasonNamespaceNotAllowed)
	if n := len(w.service.Calls(tokenfake.Apply)); n != 0 {
		t.Errorf("%d applies", n)
	}
	w.edit(i, func() { i.Spec.AccessRules = w.instance().Spec.AccessRules })
	w.eventuallyCondition("press-07", v1alpha1.ReadyCondition, metav1.ConditionTrue, v1alpha1.ReasonIssued)
}

// TestANamespaceLabelDecides follows a label as it is lost and comes back: no new tokens without it, and the ones that
// are held stay.
func TestANamespaceLabelDecides(t *testing.T) {
	w := newWorld(t)
	w.credential("LTAI-one", "secret-one")
	i := w.instance()
	i.Spec.AccessRules[0].Namespaces = v1alpha1.RuleNamespaces{
		From: v1alpha1.NamespacesSelector, Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"mqtt": "factory"}},
	}
	w.must(w.Create(t.Context(), i))
	w.run()
	w.issued("press-07")
	before := w.secret("press-07")
	namespace := &corev1.Namespace{}
	w.must(w.Get(t.Context(), client.ObjectKey{Name: w.namespace}, namespace))
	w.edit(namespace, func() { delete(namespace.Labels, "mqtt") })
	w.eventuallyCondition("press-07", v1alpha1.AuthorizedCondition, metav1.ConditionFalse, v1alpha1.ReasonNamespaceNotAllowed)
	w.press("press-08")
	w.eventuallyCondition("press-08", v1alpha1.ReadyCondition, metav1.ConditionFalse, v1alpha1.ReasonNamespaceNotAllowed)
	if !sameBytes(before.Data, w.secret("press-07").Data) {
		t.Error("the Secret changed")
	}
	w.edit(namespace, func() { namespace.Labels["mqtt"] = "factory" })
	w.eventuallyCondition("press-08", v1alpha1.ReadyCondition, metav1.ConditionTrue, v1alpha1.ReasonIssued)
	w.eventuallyCondition("press-07", v1alpha1.AuthorizedCondition, metav1.ConditionTrue, v1alpha1.ReasonAllowed)
	if n := len(w.service.Calls(tokenfake.Apply)); n != 2 {
		t.Errorf("%d applies, want one for each grant", n)
	}
}
