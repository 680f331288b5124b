package controllers_test

import (
	"io"
	"slices"
	"sync"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mqtt-token-operator/mqtt-token-operator/api/v1alpha1"
)

// instance declares the world's instance, with rules that let its own namespace have everything under factory/.
func (w *world) instance() *v1alpha1.MqttInstance {
	w.t.Helper()
	i := &v1alpha1.MqttInstance{
		ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: "factory"},
		Spec: v1alpha1.MqttInstanceSpec{
			InstanceID: "post-cn-test", RegionID: "cn-hangzhou",
			Credentials: v1alpha1.Credentials{
				Type:      v1alpha1.CredentialTypeAccessKey,
				AccessKey: v1alpha1.AccessKeyCredential{SecretRef: v1alpha1.SecretReference{Name: "factory-ak"}},
			},
			AccessRules: []v1alpha1.AccessRule{{
				Namespaces: v1alpha1.RuleNamespaces{From: v1alpha1.NamespacesSame}, GroupIDs: []string{"GID_line*"},
				Topics: []v1alpha1.TopicRule{{Filter: "factory/#", Actions: []v1alpha1.Action{v1alpha1.ActionPublish, v1alpha1.ActionSubscribe}}},
			}},
		},
	}
	return i
}

// press is a grant for one device that publishes one topic.
func (w *world) press(name string, change ...func(*v1alpha1.MqttTokenGrantSpec)) *v1alpha1.MqttTokenGrant {
	w.t.Helper()
	g := &v1alpha1.MqttTokenGrant{
		ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: name},
		Spec: v1alpha1.MqttTokenGrantSpec{
			InstanceRef: v1alpha1.InstanceReference{Name: "factory"},
			Client:      v1alpha1.Client{GroupID: "GID_line_a", DeviceID: name},
			Topics:      []v1alpha1.TopicPermission{{Filter: "factory/" + name, Actions: []v1alpha1.Action{v1alpha1.ActionPublish}}},
		},
	}
	for _, c := range change {
		c(&g.Spec)
	}
	w.must(w.Create(w.t.Context(), g))
	return g
}

// readyWorld is a world with a manager that runs and an instance that works.
func readyWorld(t *testing.T) *world {
	t.Helper()
	w := newWorld(t)
	w.becomeReady()
	return w
}

// becomeReady starts the manager with a working instance.
func (w *world) becomeReady() {
	w.t.Helper()
	w.credential("LTAI-one", "secret-one")
	w.must(w.Create(w.t.Context(), w.instance()))
	w.run()
	w.eventuallyInstance(metav1.ConditionTrue, v1alpha1.ReasonConnected)
	w.settled()
	w.requests.take()
}

func (w *world) eventuallyInstance(status metav1.ConditionStatus, reason string) {
	w.t.Helper()
	w.eventually("the instance: "+string(status)+"/"+reason, func() bool {
		i := w.instance()
		w.must(w.Get(w.t.Context(), keyOf(i), i))
		return slices.ContainsFunc(i.Status.Conditions, func(c metav1.Condition) bool {
			return c.Type == v1alpha1.ReadyCondition && c.Status == status && c.Reason == reason
		})
	})
}

// deleteInstance deletes the world's instance, and lets the time pass that it waits for its grants.
func (w *world) deleteInstance() {
	w.t.Helper()
	i := w.instance()
	w.must(w.Delete(w.t.Context(), i))
	w.eventually("the instance is gone", func() bool {
		w.clock.SetTime(w.clock.Now().Add(5 * time.Second))
		return apierrors.IsNotFound(w.Get(w.t.Context(), keyOf(i), i))
	})
}

// livePassword is the password that the newest token makes.
func (w *world) livePassword() string {
	issued := w.service.Issued()
	return "W|" + issued[len(issued)-1].Value.Reveal()
}

// gate lets bytes through while it is open.
type gate struct{ mu sync.RWMutex }

// close shuts the gate and returns what opens it, once.
func (g *gate) close() func() {
	g.mu.Lock()
	return sync.OnceFunc(g.mu.Unlock)
}

// gated is a body behind a gate.
type gated struct {
	io.ReadCloser
	gate *gate
}

func (b gated) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.gate.mu.RLock()
	defer b.gate.mu.RUnlock()
	return n, err
}
