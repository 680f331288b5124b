package controllers

import (
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/mqtt-token-operator/mqtt-token-operator/api/v1alpha1"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/credsecret"
)

// TestARecordIsFollowedWhereItsNamespaceMayGo and nowhere else: whoever may write a Secret may write its record.
func TestARecordIsFollowedWhereItsNamespaceMayGo(t *testing.T) {
	instance := func(namespace string, from v1alpha1.NamespacesFrom) *v1alpha1.MqttInstance {
		return &v1alpha1.MqttInstance{
			ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "factory"},
			Spec: v1alpha1.MqttInstanceSpec{
				InstanceID: "post-cn-test",
				AccessRules: []v1alpha1.AccessRule{{Namespaces: v1alpha1.RuleNamespaces{
					From: from, Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"mqtt": "factory"}},
				}}},
			},
		}
	}
	scheme := runtime.NewScheme()
	if err := v1alpha1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	reader := fake.NewClientBuilder().WithScheme(scheme).WithObjects(
		instance("line-a", v1alpha1.NamespacesSame), instance("open", v1alpha1.NamespacesAll),
		instance("closed", v1alpha1.NamespacesSame), instance("by-label", v1alpha1.NamespacesSelector),
	).Build()
	connections := NewConnections()
	connections.change(types.NamespacedName{Namespace: "gone", Name: "remembered"}, func(e *entry) { e.link = &link{instanceID: "post-cn-test"} })
	for sentence, tc := range map[string]struct {
		instance, client string
		labels           map[string]string
		want             bool
	}{
		"an instance of the namespace":                  {instance: "line-a/factory", want: true},
		"one of the namespace that is gone":             {instance: "line-a/former", want: true},
		"one that lets all in":                          {instance: "open/factory", want: true},
		"one that lets all in, and another's token":     {instance: "open/factory", client: "post-cn-other/x"},
		"one that lets nobody else in":                  {instance: "closed/factory"},
		"one that lets those with a label in":           {instance: "by-label/factory", labels: map[string]string{"mqtt": "factory"}, want: true},
		"one that lets others with a label in":          {instance: "by-label/factory"},
		"one that is gone, and its link is not":         {instance: "gone/remembered", want: true},
		"one that is gone, by another's token":          {instance: "gone/remembered", client: "post-cn-other/x"},
		"one that nobody knows":                         {instance: "gone/unknown"},
		"none":                                          {instance: ""},
		"nonsense":                                      {instance: "/"},
		"nonsense with a name that begins like the own": {instance: "line-a"},
	} {
		t.Run(sentence, func(t *testing.T) {
			namespace := &metav1.ObjectMeta{Name: "line-a", Labels: tc.labels}
			facts := credsecret.Facts{Instance: tc.instance, Client: "post-cn-test/GID_line@@@press-07"}
			if tc.client != "" {
				facts.Client = tc.client
			}
			got, err := recordedIssuer(t.Context(), reader, connections, namespace, facts)
			if want := map[bool]string{true: tc.instance}[tc.want]; err != nil || got != want {
				t.Errorf("%q, %v; want %q", got, err, want)
			}
		})
	}
}
