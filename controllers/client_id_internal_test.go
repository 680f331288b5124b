package controllers

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/mqtt-token-operator/mqtt-token-operator/api/v1alpha1"
	"github.com/mqtt-token-operator/mqtt-token-operator/test/gen"
)

func TestWhoGoesFirst(t *testing.T) {
	early, late := guardStart(), guardStart().Add(time.Second)
	for sentence, tc := range map[string]struct {
		one, other claim
		want       bool
	}{
		"the older":                     {claim{created: early, uid: "b"}, claim{created: late, uid: "a"}, true},
		"the younger does not":          {claim{created: late, uid: "a"}, claim{created: early, uid: "b"}, false},
		"the smaller UID of one moment": {claim{created: early, uid: "a"}, claim{created: early, uid: "b"}, true},
		"whoever holds it":              {claim{rank: lives, created: late, uid: "b"}, claim{created: early, uid: "a"}, true},
		"whoever has tokens":            {claim{rank: lives, created: late, uid: "b"}, claim{rank: given, created: early, uid: "a"}, true},
		"the older of two holders":      {claim{rank: lives, created: early, uid: "b"}, claim{rank: lives, created: late, uid: "a"}, true},
	} {
		t.Run(sentence, func(t *testing.T) {
			if got := tc.one.before(tc.other); got != tc.want || got == tc.other.before(tc.one) {
				t.Errorf("%v, and the other way round %v", got, tc.other.before(tc.one))
			}
		})
	}
}

// TestWhoseClientIDItIs looks from a grant that has just been made at another one, in another namespace, with the same
// client id.
func TestWhoseClientIDItIs(t *testing.T) {
	for sentence, tc := range map[string]struct {
		change   func(rival *v1alpha1.MqttTokenGrant, instance *v1alpha1.MqttInstance)
		unusable bool // the rival's instance
		want     bool // that the rival has it
	}{
		"an older one has": {want: true},
		"a younger one has not": {change: func(g *v1alpha1.MqttTokenGrant, _ *v1alpha1.MqttInstance) {
			g.CreationTimestamp.Time = guardStart().Add(time.Hour)
		}},
		"a younger one that had it has": {change: func(g *v1alpha1.MqttTokenGrant, _ *v1alpha1.MqttInstance) {
			g.CreationTimestamp.Time = guardStart().Add(time.Hour)
			hold(g)
		}, want: true},
		"one that had it elsewhere has not": {change: func(g *v1alpha1.MqttTokenGrant, _ *v1alpha1.MqttInstance) {
			g.CreationTimestamp.Time = guardStart().Add(time.Hour)
			hold(g)
			g.Status.InstanceID = "post-cn-other"
		}},
		"one in deletion has not": {change: func(g *v1alpha1.MqttTokenGrant, _ *v1alpha1.MqttInstance) {
			g.DeletionTimestamp = new(metav1.NewTime(guardStart()))
		}},
		"one at another instance has not":          {change: func(_ *v1alpha1.MqttTokenGrant, i *v1alpha1.MqttInstance) { i.Spec.InstanceID = "post-cn-other" }},
		"one whose instance does not work has not": {unusable: true},
		"unless it had it before, with tokens":     {change: func(g *v1alpha1.MqttTokenGrant, _ *v1alpha1.MqttInstance) { hold(g) }, unusable: true, want: true},
		"one that moved to nowhere has, while its tokens live": {change: func(g *v1alpha1.MqttTokenGrant, _ *v1alpha1.MqttInstance) {
			hold(g)
			g.Spec.InstanceRef.Name = "missing"
		}, want: true},
		"one that asks for another one by now has, too": {change: func(g *v1alpha1.MqttTokenGrant, _ *v1alpha1.MqttInstance) {
			hold(g)
			g.Spec.Client.DeviceID = "another"
		}, want: true},
		"until they have ended": {change: func(g *v1alpha1.MqttTokenGrant, _ *v1alpha1.MqttInstance) {
			hold(g)
			g.Spec.Client.DeviceID, g.Status.ExpirationTime = "another", new(metav1.NewTime(guardStart()))
		}},
		"one whose instance is missing has not": {change: func(g *v1alpha1.MqttTokenGrant, _ *v1alpha1.MqttInstance) { g.Spec.InstanceRef.Name = "missing" }},
		"one that the rules deny has not":       {change: func(_ *v1alpha1.MqttTokenGrant, i *v1alpha1.MqttInstance) { i.Spec.AccessRules = nil }},
		"unless its tokens live on meanwhile":   {change: func(g *v1alpha1.MqttTokenGrant, i *v1alpha1.MqttInstance) { i.Spec.AccessRules = nil; hold(g) }, want: true},
		"one that lost them to the rules has not": {change: func(g *v1alpha1.MqttTokenGrant, i *v1alpha1.MqttInstance) {
			i.Spec.AccessRules = nil
			hold(g)
			g.Status.Tokens = nil
		}},
		"one that cannot be understood has not": {change: func(g *v1alpha1.MqttTokenGrant, _ *v1alpha1.MqttInstance) { g.Spec.Validity = "a while" }},
		"one with another client id has not":    {change: func(g *v1alpha1.MqttTokenGrant, _ *v1alpha1.MqttInstance) { g.Spec.Client.DeviceID = "another" }},
	} {
		t.Run(sentence, func(t *testing.T) {
			grant, rival := gen.Grant("press-07"), gen.Grant("press-07")
			grant.UID, rival.UID, rival.Namespace = "self", "rival", "line-b"
			grant.CreationTimestamp.Time, rival.CreationTimestamp.Time = guardStart(), guardStart().Add(-time.Hour)
			rival.Finalizers = []string{v1alpha1.GrantFinalizer}
			rival.Spec.InstanceRef = v1alpha1.InstanceReference{Name: "factory", Namespace: "line-b"}
			instance := newGuarded(0).instance
			instance.Namespace, instance.Spec.InstanceID = "line-b", "post-cn-test"
			if tc.change != nil {
				tc.change(rival, instance)
			}
			r := &GrantReconciler{Client: knowing(t, rival, instance), Connections: NewConnections(), Clock: clocktesting.NewFakePassiveClock(guardStart())}
			if !tc.unusable {
				r.Connections.change(client.ObjectKeyFromObject(instance), func(e *entry) { e.link, e.health = &link{instanceID: "post-cn-test"}, health{checked: true} })
			}
			got, err := r.findRival(t.Context(), grant, "post-cn-test")
			if err != nil || (got != nil) != tc.want {
				t.Fatalf("%v, %v", got, err)
			}
			if got == nil {
				return
			}
			if text := (observation{grant: grant, rival: got}).conflictProblem().message; strings.Contains(text, "line-b") {
				t.Errorf("the message tells of another namespace: %s", text)
			}
		})
	}
}

// hold makes a grant one that has its client id, and tokens.
func hold(grant *v1alpha1.MqttTokenGrant) {
	grant.Status.ClientID, grant.Status.InstanceID = "GID_line_a@@@press-07", "post-cn-test"
	grant.Status.Tokens = []v1alpha1.TokenStatus{{Type: "Publish"}}
	grant.Status.ExpirationTime = new(metav1.NewTime(guardStart().Add(time.Hour)))
}

// knowing is a cache that holds the objects.
func knowing(t *testing.T, objects ...client.Object) client.Client {
	t.Helper()
	kinds := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{v1alpha1.AddToScheme, corev1.AddToScheme} {
		if err := add(kinds); err != nil {
			t.Fatal(err)
		}
	}
	return fake.NewClientBuilder().WithScheme(kinds).WithObjects(objects...).
		WithIndex(&v1alpha1.MqttTokenGrant{}, clientIDIndex, clientIDKeys).Build()
}
