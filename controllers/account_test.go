package controllers_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mqtt-token-operator/mqtt-token-operator/api/v1alpha1"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/token"
)

func (w *world) eventuallyAccount(id string) {
	w.t.Helper()
	w.eventually("account "+id, func() bool {
		i := w.instance()
		w.must(w.Get(w.t.Context(), keyOf(i), i))
		return i.Status.AccountID == id
	})
}

// TestAnAccountIsAskedForOnce, and a key stands for its own until the answer comes.
func TestAnAccountIsAskedForOnce(t *testing.T) {
	w := newWorld(t)
	var asked atomic.Int32
	w.accountOf = func(context.Context, token.Connection) (string, error) {
		if asked.Add(1) == 1 {
			return "", unavailable()
		}
		return "1001", nil
	}
	w.becomeReady()
	w.eventuallyAccount("LTAI-one")
	w.issued("press-07") // nothing waits for the answer
	poke := func() {
		w.editInstance(func(i *v1alpha1.MqttInstance) {
			metav1.SetMetaDataAnnotation(&i.ObjectMeta, "test/poke", w.clock.Now().String())
		})
		w.settled()
	}
	poke()
	if n := asked.Load(); n != 1 {
		t.Errorf("asked %d times, right after a failure", n)
	}
	w.clock.SetTime(w.clock.Now().Add(time.Hour))
	poke()
	w.eventuallyAccount("1001")
	poke()
	if n := asked.Load(); n != 2 {
		t.Errorf("asked %d times", n)
	}
	w.issued("press-08")
}

// TestOnlyTheVendorsEndpointsHaveAccounts: behind another one, such as the simulator's, a key means something else.
func TestOnlyTheVendorsEndpointsHaveAccounts(t *testing.T) {
	w := newWorld(t)
	w.accountOf = func(context.Context, token.Connection) (string, error) {
		t.Error("asked")
		return "1001", nil
	}
	w.endpoints = []string{"simulator.example:8443"}
	w.credential("LTAI-one", "secret-one")
	i := w.instance()
	i.Spec.Endpoint = "simulator.example:8443"
	w.must(w.Create(t.Context(), i))
	w.run()
	w.eventuallyInstance(metav1.ConditionTrue, v1alpha1.ReasonConnected)
	w.settled()
	w.eventuallyAccount("LTAI-one")
}
