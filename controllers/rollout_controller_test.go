package controllers_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/mqtt-token-operator/mqtt-token-operator/api/v1alpha1"
)

// rolloutWorld is a world that restarts consumers. Its time is ahead of the API server's, which stamps the workloads.
func rolloutWorld(t *testing.T) *world {
	t.Helper()
	w := newWorld(t)
	w.clock.SetTime(time.Date(2099, 5, 17, 3, 4, 5, 0, time.UTC))
	w.rollouts = true
	w.becomeReady()
	return w
}

// consumer is a Deployment that reads tokens when it starts; there are no controllers here that would do anything to it.
func (w *world) consumer(name string, annotations map[string]string) *appsv1.Deployment {
	w.t.Helper()
	labels := map[string]string{"app": name}
	d := &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: name, Annotations: annotations},
		Spec: appsv1.DeploymentSpec{
			Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "app", Image: "app"}}},
			},
		},
	}
	w.must(w.Create(w.t.Context(), d))
	w.rolledOut(d)
	return d
}

// rolledOut says that a Deployment's pods are those of its template, as its controller would.
func (w *world) rolledOut(d *appsv1.Deployment) {
	w.t.Helper()
	w.must(w.Get(w.t.Context(), keyOf(d), d))
	before := d.DeepCopy()
	d.Status = appsv1.DeploymentStatus{ObservedGeneration: d.Generation, Replicas: 1, UpdatedReplicas: 1, ReadyReplicas: 1, AvailableReplicas: 1}
	w.must(w.Status().Patch(w.t.Context(), d, client.MergeFrom(before)))
}

func (w *world) restartedFor(d *appsv1.Deployment) string {
	w.t.Helper()
	w.must(w.Get(w.t.Context(), keyOf(d), d))
	return d.Spec.Template.Annotations[v1alpha1.RestartedForAnnotation]
}

func restarts(names ...string) func(*v1alpha1.MqttTokenGrantSpec) {
	return func(s *v1alpha1.MqttTokenGrantSpec) {
		for _, name := range names {
			s.RolloutRestartTargets = append(s.RolloutRestartTargets, v1alpha1.RolloutTarget{Kind: v1alpha1.WorkloadDeployment, Name: name})
		}
	}
}

func allowing(grants string) map[string]string {
	return map[string]string{v1alpha1.AllowRestartAnnotation: grants}
}

// notesOf lists what events of a reason say of a grant.
func (w *world) notesOf(name, reason string) []string {
	w.t.Helper()
	var list eventsv1.EventList
	w.must(w.List(w.t.Context(), &list, client.InNamespace(w.namespace)))
	var notes []string
	for i := range list.Items {
		if e := list.Items[i]; e.Regarding.Name == name && e.Reason == reason {
			notes = append(notes, e.Note)
		}
	}
	slices.Sort(notes)
	return notes
}

func (w *world) issuedAt(name string) string {
	w.t.Helper()
	return w.grant(name).Status.Tokens[0].IssuedTime.UTC().Format(time.RFC3339)
}

func TestANewTokenRestartsConsumersOnce(t *testing.T) {
	w := rolloutWorld(t)
	named, wild := w.consumer("named", allowing("other,press-07")), w.consumer("any", allowing("*"))
	w.issued("press-07", restarts("named", "any"))
	if got := w.restartedFor(named); got != "" {
		t.Fatalf("the first token restarted it, for %s", got)
	}
	w.advance(time.Minute)
	w.annotate("press-07", v1alpha1.ReissueAnnotation, "1")
	w.eventually("a restart of both", func() bool { return w.restartedFor(named) != "" && w.restartedFor(wild) != "" })
	w.settled()
	if got, want := w.restartedFor(named), w.issuedAt("press-07"); got != want {
		t.Errorf("restarted for %s, want %s", got, want)
	}
	if got := named.Annotations[v1alpha1.RestartedAtAnnotation]; got == "" {
		t.Error("it does not say when")
	}
	before := named.ResourceVersion
	w.rolledOut(wild)
	w.run() // a restart of the manager
	w.settled()
	w.restartedFor(named)
	if named.ResourceVersion != before {
		t.Error("it was restarted again")
	}
	if got := w.notesOf("press-07", v1alpha1.EventRestarted); len(got) != 2 {
		t.Errorf("told: %q", got)
	}
}

func TestConsumersAreRestartedAtMostEveryFiveMinutes(t *testing.T) {
	w := rolloutWorld(t)
	d := w.consumer("app", allowing("press-07"))
	w.issued("press-07", restarts("app"))
	w.advance(time.Minute)
	w.annotate("press-07", v1alpha1.ReissueAnnotation, "1")
	w.eventually("a restart", func() bool { return w.restartedFor(d) != "" })
	w.rolledOut(d)
	w.advance(time.Minute)
	first := w.issuedAt("press-07")
	w.annotate("press-07", v1alpha1.ReissueAnnotation, "2")
	w.eventually("another token", func() bool { return w.issuedAt("press-07") != first })
	w.settled()
	if got := w.restartedFor(d); got != first {
		t.Fatalf("restarted again after a minute, for %s", got)
	}
	w.advance(4 * time.Minute)
	g := w.grant("press-07")
	w.edit(g, func() { g.Spec.Overlap = "1m" }) // another look, as the passing of time would be
	w.eventually("another restart", func() bool { return w.restartedFor(d) == w.issuedAt("press-07") })
}

func TestWhatIsNotRestartedIsToldAndHoldsUpNothing(t *testing.T) {
	w := rolloutWorld(t)
	d := w.consumer("stranger", allowing("other"))
	paused := w.consumer("paused", allowing("*"))
	w.edit(paused, func() { paused.Spec.Paused = true })
	w.issued("press-07", restarts("stranger", "nobody", "paused"))
	w.advance(time.Minute)
	w.annotate("press-07", v1alpha1.ReissueAnnotation, "1")
	w.eventually("all are told", func() bool { return len(w.notesOf("press-07", v1alpha1.EventNotRestarted)) == 3 })
	w.settled()
	notes := strings.Join(w.notesOf("press-07", v1alpha1.EventNotRestarted), "\n")
	if !strings.Contains(notes, "Deployment nobody is not restarted") || !strings.Contains(notes, "Annotate it with mqtt.tokengrant.dev/allow-restart") {
		t.Errorf("told:\n%s", notes)
	}
	if got := w.restartedFor(d) + w.restartedFor(paused); got != "" {
		t.Errorf("restarted for %s without leave", got)
	}
	if c := w.condition("press-07", v1alpha1.ReadyCondition); c.Status != metav1.ConditionTrue {
		t.Errorf("Ready is %s: %s", c.Status, c.Message)
	}
	told := w.events("press-07")
	g := w.grant("press-07")
	w.edit(g, func() { g.Spec.Overlap = "1m" })
	w.settled()
	if again := w.events("press-07"); again != told {
		t.Errorf("%d events more", again-told)
	}
}

func TestReplacedTokensWaitForConsumers(t *testing.T) {
	for sentence, tc := range map[string]struct {
		cut        func(w *world)
		finish     bool          // the rollout
		after      time.Duration // the overlap of a minute
		wantRevoke bool
	}{
		"a narrowed one while they are restarted": {cut: narrow, after: 2 * time.Minute},
		"and goes when they are":                  {cut: narrow, after: 2 * time.Minute, finish: true, wantRevoke: true},
		"or after ten minutes":                    {cut: narrow, after: 12 * time.Minute, wantRevoke: true},
		"a reissued one, too":                     {cut: reissueRevoking, after: 2 * time.Minute},
		"one of a client that is held does not":   {cut: func(w *world) { w.annotate("press-07", v1alpha1.HoldAnnotation, "stolen") }, wantRevoke: true},
		"nor does one of a grant that is deleted": {cut: func(w *world) { w.must(w.Delete(w.t.Context(), w.grant("press-07"))) }, wantRevoke: true},
	} {
		t.Run(sentence, func(t *testing.T) {
			w := rolloutWorld(t)
			d := w.consumer("app", allowing("press-07"))
			w.issued("press-07", restarts("app"), func(s *v1alpha1.MqttTokenGrantSpec) {
				s.Overlap = "1m"
				s.Topics = append(s.Topics, v1alpha1.TopicPermission{Filter: "factory/more", Actions: s.Topics[0].Actions})
			})
			w.advance(time.Minute)
			tc.cut(w)
			if tc.after > 0 {
				w.eventually("a restart", func() bool { return w.restartedFor(d) != "" })
			}
			w.settled()
			if tc.finish {
				w.rolledOut(d)
			}
			w.advance(tc.after)
			if tc.wantRevoke {
				w.eventually("a revocation", func() bool { return w.revokes() == 1 })
				return
			}
			w.settled()
			if got := w.revokes(); got != 0 {
				t.Errorf("%d tokens were revoked", got)
			}
		})
	}
}

func narrow(w *world) {
	g := w.grant("press-07")
	w.edit(g, func() { g.Spec.Topics = g.Spec.Topics[:1] })
}

func reissueRevoking(w *world) {
	g := w.grant("press-07")
	w.edit(g, func() {
		metav1.SetMetaDataAnnotation(&g.ObjectMeta, v1alpha1.ReissueAnnotation, "1")
		metav1.SetMetaDataAnnotation(&g.ObjectMeta, v1alpha1.ReissuePolicyAnnotation, v1alpha1.ReissuePolicyRevoke)
	})
}

func TestNothingIsRestartedUnlessItIsTurnedOn(t *testing.T) {
	w := readyWorld(t)
	w.consumer("app", allowing("*"))
	w.press("press-07", restarts("app"))
	w.eventuallyCondition("press-07", v1alpha1.RolloutRestartsOffCondition, metav1.ConditionTrue, v1alpha1.ReasonRolloutRestartsOff)
	if c := w.condition("press-07", v1alpha1.StalledCondition); c.Status == metav1.ConditionTrue {
		t.Errorf("Stalled: %s", c.Message)
	}
	for _, request := range w.requests.take() {
		if strings.Contains(request, "/apps/") && !strings.Contains(request, "POST") {
			t.Errorf("asked for workloads: %s", request)
		}
	}
}
