package controllers_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	eventsv1 "k8s.io/api/events/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	corev1 "k8s.io/api/core/v1"

	"github.com/mqtt-token-operator/mqtt-token-operator/api/v1alpha1"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/aliyun"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/metrics"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/simulator/state"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/simulator/wire"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/token"
)

const (
	canarySecret   = "canary-accesskey-secret-9b1d"
	canarySecurity = "canary/sts+token=4c7e"
)

// TestNothingSecretIsEverTold drives every kind of fault through the manager, with a token at stake in each of its
// calls, and then reads everything that the manager wrote for people.
func TestNothingSecretIsEverTold(t *testing.T) {
	registry := prometheus.NewRegistry()
	s := newSimulated(t,
		state.Key{ID: "LTAI-sim", Secret: token.NewValue(canarySecret), SecurityToken: token.NewValue(canarySecurity)},
		aliyun.Options{CallTimeout: time.Second, Calls: metrics.New(registry), Now: time.Now})
	s.must(s.Create(t.Context(), &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: "factory-ak"},
		Data:       map[string][]byte{"accessKeyID": []byte("LTAI-sim"), "accessKeySecret": []byte(canarySecret), "securityToken": []byte(canarySecurity)},
	}))
	i := s.instance()
	i.Spec.ClientAccessKeyID = "LTAI-clients"
	s.must(s.Create(t.Context(), i))
	s.run()
	s.eventuallyInstance(metav1.ConditionTrue, v1alpha1.ReasonConnected)
	canaries := map[string]bool{canarySecret: true, canarySecurity: true}
	for n, fault := range everyFault() {
		name := fmt.Sprintf("press-%02d", n)
		g := s.issued(name)
		for _, value := range s.secret(name).Data {
			if text := string(value); strings.HasPrefix(text, "W|") {
				canaries[strings.TrimPrefix(text, "W|")] = true
			}
		}
		s.must(s.sim.SetFaults(fault))
		s.advance(17*time.Hour, name) // ApplyToken fails
		s.eventually(name+" tells of the fault, or waits for the instance", func() bool {
			c := s.condition(name, v1alpha1.RenewedCondition)
			return c.Status == metav1.ConditionFalse || s.instanceIsDown()
		})
		s.must(s.Delete(t.Context(), g)) // RevokeToken fails
		s.eventually(name+" waits for the service, or leaves it to the ledger", func() bool {
			return s.Get(t.Context(), keyOf(g), g) != nil || s.instanceIsDown() || slices.ContainsFunc(g.Status.Conditions, func(c metav1.Condition) bool {
				return strings.Contains(c.Message, "cannot be revoked yet")
			})
		})
		s.must(s.sim.SetFaults(wire.Faults{}))
		s.eventually(name+" is gone", func() bool {
			s.advance(time.Minute)
			if err := s.Get(t.Context(), keyOf(g), g); err != nil {
				return true
			}
			before := g.DeepCopy()
			metav1.SetMetaDataAnnotation(&g.ObjectMeta, "test/poke", s.clock.Now().String())
			return s.Patch(t.Context(), g, client.MergeFrom(before)) != nil
		})
		s.eventually("the instance works again", func() bool {
			s.advance(time.Minute)
			s.editInstance(func(i *v1alpha1.MqttInstance) {
				metav1.SetMetaDataAnnotation(&i.ObjectMeta, "test/poke", s.clock.Now().String())
			})
			return !s.instanceIsDown()
		})
	}
	s.unreachable()
	if n := len(canaries); n < 2+len(everyFault()) {
		t.Fatalf("only %d canaries: the test looks for too little", n)
	}
	s.lookFor(canaries, registry)
}

// everyFault is one of each kind that the simulator can do.
func everyFault() []wire.Faults {
	status := func(code int, word string) wire.Faults {
		return wire.Faults{Calls: []wire.Fault{{Kind: wire.FaultError, Status: code, Code: word, Message: "echo " + canarySecret + " " + canarySecurity}}}
	}
	kind := func(k wire.FaultKind) wire.Faults { return wire.Faults{Calls: []wire.Fault{{Kind: k}}} }
	return []wire.Faults{
		kind(wire.FaultOutage), kind(wire.FaultGarbage), kind(wire.FaultOddError), kind(wire.FaultReset), kind(wire.FaultDropReply),
		{Latency: wire.Duration(2 * time.Second)},
		status(http.StatusBadRequest, "PermissionCheckFailed"), status(http.StatusBadRequest, "ParameterCheckFailed"),
		status(http.StatusBadRequest, "SignatureDoesNotMatch"), status(http.StatusBadRequest, "Throttling.User"),
		status(http.StatusInternalServerError, "InternalError"), status(http.StatusServiceUnavailable, canarySecret),
	}
}

func (s *simulated) instanceIsDown() bool {
	s.t.Helper()
	i := s.instance()
	s.must(s.Get(s.t.Context(), keyOf(i), i))
	for _, c := range i.Status.Conditions {
		if c.Type == v1alpha1.ReadyCondition {
			return c.Status == metav1.ConditionFalse
		}
	}
	return false
}

// unreachable points the instance to a port that nobody listens on.
func (s *simulated) unreachable() {
	s.t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	s.must(err)
	address := listener.Addr().String()
	s.must(listener.Close())
	s.endpoints = append(s.endpoints, address)
	s.run() // the flags are the process's
	i := s.instance()
	s.must(s.Get(s.t.Context(), keyOf(i), i))
	s.edit(i, func() { i.Spec.Endpoint = address })
	s.eventuallyInstance(metav1.ConditionFalse, v1alpha1.ReasonUnreachable)
}

// lookFor reads logs, events, objects and metrics.
func (s *simulated) lookFor(canaries map[string]bool, registry *prometheus.Registry) {
	s.t.Helper()
	told := map[string]string{"log": s.logs.text()}
	var events eventsv1.EventList
	s.must(s.List(s.t.Context(), &events, client.InNamespace(s.namespace)))
	var grants v1alpha1.MqttTokenGrantList
	s.must(s.List(s.t.Context(), &grants, client.InNamespace(s.namespace)))
	i := s.instance()
	s.must(s.Get(s.t.Context(), keyOf(i), i))
	families, err := registry.Gather()
	s.must(err)
	for name, object := range map[string]any{"events": events, "grants": grants, "instance": i, "metrics": families} {
		text, err := json.Marshal(object)
		s.must(err)
		told[name] = string(text)
	}
	if len(events.Items) == 0 || len(families) == 0 || told["log"] == "" {
		s.t.Fatal("nothing was told at all: the test looks in the wrong place")
	}
	for canary := range canaries {
		for _, form := range []string{canary, url.QueryEscape(canary), base64.StdEncoding.EncodeToString([]byte(canary))} {
			for place, text := range told {
				if strings.Contains(text, form) {
					s.t.Errorf("the %s tells a secret", place)
				}
			}
		}
	}
	for place, text := range told {
		if strings.Contains(text, "Signature=") || strings.Contains(text, "SecurityToken=") {
			s.t.Errorf("the %s tells a signed URL", place)
		}
	}
}
