package controllers_test

import (
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	eventsv1 "k8s.io/api/events/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/mqtt-token-operator/mqtt-token-operator/api/v1alpha1"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/aliyun"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/simulator"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/simulator/broker"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/simulator/state"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/token"
	"github.com/mqtt-token-operator/mqtt-token-operator/pkg/mqttcred"
)

// simulated is a world whose token service is the simulator, reached through the real SDK over TLS.
type simulated struct {
	*world
	sim *simulator.Simulator
}

func newSimulated(t *testing.T, key state.Key, options aliyun.Options) *simulated {
	t.Helper()
	w := newWorld(t)
	sim, err := simulator.Start(t.Context(), simulator.Options{
		Accounts:  []state.Account{{ID: "account", Keys: []state.Key{key}}},
		Instances: []state.Instance{{ID: "post-cn-test", Region: "cn-hangzhou", Account: "account"}},
	})
	w.must(err)
	t.Cleanup(func() { _ = sim.Close() })
	w.clock.SetTime(time.Now())
	w.dial = aliyun.NewVendor(options).Dial
	w.endpoints = []string{sim.APIAddress()}
	return &simulated{world: w, sim: sim}
}

// instance points to the simulator.
func (s *simulated) instance() *v1alpha1.MqttInstance {
	s.t.Helper()
	i := s.world.instance()
	i.Spec.Endpoint, i.Spec.CABundle = s.sim.APIAddress(), string(s.sim.CAPEM())
	i.Spec.Broker = v1alpha1.Broker{Host: "127.0.0.1", CABundle: string(s.sim.CAPEM())}
	i.Spec.Broker.Ports.TLS = s.port(broker.TLS)
	return i
}

func (s *simulated) port(kind broker.Kind) int32 {
	s.t.Helper()
	_, text, err := net.SplitHostPort(s.sim.BrokerAddress(kind))
	s.must(err)
	port, err := strconv.ParseInt(text, 10, 32)
	s.must(err)
	return int32(port)
}

func (s *simulated) applied() int { return s.sim.Calls()[state.Apply].Total }

func TestTheRealServiceClientAgainstTheSimulator(t *testing.T) {
	s := newSimulated(t, state.Key{ID: "LTAI-sim", Secret: token.NewValue("sim-secret")}, aliyun.Options{})
	s.credential("LTAI-sim", "sim-secret")
	s.must(s.Create(t.Context(), s.instance()))
	s.run()
	s.eventuallyInstance(metav1.ConditionTrue, v1alpha1.ReasonConnected)
	s.settled()
	s.requests.take()
	g := s.press("press-07")
	s.eventuallyCondition("press-07", v1alpha1.ReadyCondition, metav1.ConditionTrue, v1alpha1.ReasonIssued)
	s.settled()
	if n, requests := s.applied(), s.requests.take(); n != 1 || len(requests) > 4 {
		t.Errorf("a new grant costs %d ApplyToken calls and %v, want 1 call, 3 writes and 1 read", n, requests)
	}
	s.advance(17*time.Hour, "press-07")
	s.eventually("a renewal", func() bool { return s.grant("press-07").Status.Revision == 2 })
	s.settled()
	if n, requests := s.applied(), s.requests.take(); n != 2 || len(requests) > 3 {
		t.Errorf("a renewal costs %d ApplyToken calls and %v, want 1 more call, 2 writes and 1 read", n-1, requests)
	}
	s.must(s.Delete(t.Context(), g))
	s.eventually("the grant is gone", func() bool { return apierrors.IsNotFound(s.Get(t.Context(), keyOf(g), g)) })
	s.eventually("no token of a deleted grant is alive", func() bool {
		return !slices.ContainsFunc(s.sim.State().Tokens(), func(live state.Token) bool { return live.Revoked.IsZero() })
	})
}

// TestMosquittoNeedsNothingButTheFiles runs Debian's MQTT clients as a shell script would.
func TestMosquittoNeedsNothingButTheFiles(t *testing.T) {
	for _, program := range []string{"mosquitto_pub", "mosquitto_sub"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("%s is not installed (Debian: mosquitto-clients)", program)
		}
	}
	s := newSimulated(t, state.Key{ID: "LTAI-sim", Secret: token.NewValue("sim-secret")}, aliyun.Options{})
	s.credential("LTAI-sim", "sim-secret")
	s.must(s.Create(t.Context(), s.instance()))
	s.run()
	s.issued("press-07")
	s.issued("dashboard", func(spec *v1alpha1.MqttTokenGrantSpec) {
		spec.Topics = []v1alpha1.TopicPermission{{Filter: "factory/#", Actions: []v1alpha1.Action{v1alpha1.ActionSubscribe}}}
	})
	subscriber := s.runClient("mosquitto_sub", s.mount("dashboard"), "-t", "factory/#", "-q", "1", "-C", "1", "-W", "15", "-v")
	var received strings.Builder
	subscriber.Stdout = &received
	s.must(subscriber.Start())
	s.eventually("the subscriber is connected", func() bool { return len(s.sim.Clients()) == 1 })
	folder := s.mount("press-07")
	s.eventually("the message arrives", func() bool {
		if out, err := s.runClient("mosquitto_pub", folder, "-t", "factory/press-07", "-q", "1", "-m", "42").CombinedOutput(); err != nil {
			t.Fatalf("publishing: %v: %s", err, out)
		}
		return subscriber.ProcessState != nil || subscriber.Wait() == nil
	})
	if got := strings.TrimSpace(received.String()); got != "factory/press-07 42" {
		t.Errorf("received %q", got)
	}
	if out, err := s.runClient("mosquitto_pub", folder, "-t", "factory/other", "-q", "1", "-m", "42").CombinedOutput(); err == nil {
		t.Errorf("a topic that was not granted was published to: %s", out)
	}
}

// mount lays a token Secret down as files.
func (s *simulated) mount(secret string) string {
	s.t.Helper()
	folder := s.t.TempDir()
	for key, value := range s.secret(secret).Data {
		s.must(os.WriteFile(filepath.Join(folder, key), value, 0o600))
	}
	return folder
}

// runClient runs an MQTT client with what the files say. A client whose publish is refused is cut off and tries again for
// ever, so its time is bounded.
func (s *simulated) runClient(program, folder string, arguments ...string) *exec.Cmd {
	s.t.Helper()
	file := func(key string) string {
		text, err := os.ReadFile(filepath.Join(folder, key))
		s.must(err)
		return string(text)
	}
	ctx, cancel := context.WithTimeout(s.t.Context(), 15*time.Second)
	if arguments[1] == "factory/other" {
		ctx, cancel = context.WithTimeout(s.t.Context(), 3*time.Second)
	}
	s.t.Cleanup(cancel)
	fixed := []string{
		"-h", file(mqttcred.KeyHost), "-p", file(mqttcred.KeyPort), "--cafile", filepath.Join(folder, mqttcred.KeyCA),
		"-i", file(mqttcred.KeyClientID), "-u", file(mqttcred.KeyUsername), "-P", file(mqttcred.KeyPassword),
	}
	return exec.CommandContext(ctx, program, append(fixed, arguments...)...)
}

func TestBadInputIsToldOnceAndCostsLittle(t *testing.T) {
	for sentence, tc := range map[string]struct {
		id, secret string
		change     func(*simulated, *v1alpha1.MqttInstance)
		want       string
		wantHint   string
	}{
		"an AccessKey id that nobody knows": {
			id: "LTAI-nobody", secret: "sim-secret", want: v1alpha1.ReasonCredentialRefused, wantHint: "AccessKey id",
		},
		"a wrong AccessKey secret": {
			id: "LTAI-sim", secret: "wrong", want: v1alpha1.ReasonCredentialRefused, wantHint: "AccessKey secret",
		},
		"an instance that nobody knows": {
			id: "LTAI-sim", secret: "sim-secret", want: v1alpha1.ReasonCredentialRefused, wantHint: "instance id",
			change: func(_ *simulated, i *v1alpha1.MqttInstance) { i.Spec.InstanceID = "post-cn-nobody" },
		},
		"an endpoint that does not answer": {
			id: "LTAI-sim", secret: "sim-secret", want: v1alpha1.ReasonUnreachable, wantHint: "no connection",
			change: func(s *simulated, i *v1alpha1.MqttInstance) {
				i.Spec.Endpoint = "127.0.0.1:1"
				s.endpoints = append(s.endpoints, i.Spec.Endpoint)
			},
		},
		"an endpoint whose certificate nobody trusts": {
			id: "LTAI-sim", secret: "sim-secret", want: v1alpha1.ReasonUnreachable, wantHint: "certificate",
			change: func(_ *simulated, i *v1alpha1.MqttInstance) { i.Spec.CABundle = "" },
		},
	} {
		t.Run(sentence, func(t *testing.T) {
			s := newSimulated(t, state.Key{ID: "LTAI-sim", Secret: token.NewValue("sim-secret")}, aliyun.Options{})
			s.credential(tc.id, tc.secret)
			i := s.instance()
			if tc.change != nil {
				tc.change(s, i)
			}
			s.must(s.Create(t.Context(), i))
			s.run()
			s.eventuallyInstance(metav1.ConditionFalse, tc.want)
			s.press("press-01")
			s.press("press-02")
			s.eventuallyCondition("press-02", v1alpha1.ReadyCondition, metav1.ConditionFalse, v1alpha1.ReasonInstanceNotReady)
			s.settled()
			s.must(s.Get(t.Context(), keyOf(i), i))
			for _, c := range i.Status.Conditions {
				if c.Type == v1alpha1.ReadyCondition && !strings.Contains(c.Message, tc.wantHint) {
					t.Errorf("%q does not say %q", c.Message, tc.wantHint)
				}
			}
			calls := s.sim.Calls()
			if calls[state.Apply].Total != 0 || calls[state.Query].Total > 2 {
				t.Errorf("it costs %+v", calls)
			}
			if n := s.events("factory"); n != 1 {
				t.Errorf("%d events on the instance, want 1", n)
			}
		})
	}
}

func TestEventsAreSpokenOncePerTransition(t *testing.T) {
	w := readyWorld(t)
	w.issued("press-07")
	w.press("denied", func(s *v1alpha1.MqttTokenGrantSpec) { s.Topics[0].Filter = "elsewhere/x" })
	w.eventuallyCondition("denied", v1alpha1.AuthorizedCondition, metav1.ConditionFalse, v1alpha1.ReasonTopicNotAllowed)
	if got := w.condition("denied", v1alpha1.AuthorizedCondition).Message; !strings.Contains(got, `"elsewhere/x"`) {
		t.Errorf("%q does not name the filter", got)
	}
	for range 3 {
		w.poke("press-07")
		w.poke("denied")
		w.settled()
	}
	for _, name := range []string{"press-07", "denied"} {
		if n := w.events(name); n != 1 {
			t.Errorf("%d events on %s, want 1", n, name)
		}
	}
}

// events counts what was told of an object, repetitions included.
func (w *world) events(name string) int {
	w.t.Helper()
	var list eventsv1.EventList
	w.must(w.List(w.t.Context(), &list, client.InNamespace(w.namespace)))
	count := 0
	for i := range list.Items {
		if list.Items[i].Regarding.Name == name {
			count++
			if series := list.Items[i].Series; series != nil {
				count += int(series.Count) - 1
			}
		}
	}
	return count
}
