package controllers_test

import (
	"context"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/mqtt-token-operator/mqtt-token-operator/api/v1alpha1"
	"github.com/mqtt-token-operator/mqtt-token-operator/controllers"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/credsecret"
)

// bound is a world that a RoleBinding lets the manager into.
type bound struct {
	*world
	// manager is the client of a user who may do what config/namespaced lets the manager do with RoleBindings, and reads
	// what is in the namespace.
	manager client.Client
	// cached shows what the manager's cache does: behind, if a test says so.
	cached client.Reader
}

func newBound(t *testing.T) *bound {
	t.Helper()
	w := newWorld(t)
	rule := func(group, resource string, verbs ...string) rbacv1.PolicyRule {
		return rbacv1.PolicyRule{APIGroups: []string{group}, Resources: []string{resource}, Verbs: verbs}
	}
	bindings := rule(rbacv1.GroupName, "rolebindings", "get", "patch")
	bindings.ResourceNames = []string{controllers.RoleBindingName}
	role := &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: w.namespace}, Rules: []rbacv1.PolicyRule{
		bindings, rule("", "secrets", "list"), rule(v1alpha1.GroupName, "mqttinstances", "list"), rule(v1alpha1.GroupName, "mqtttokengrants", "list"),
	}}
	w.must(w.Create(t.Context(), role))
	w.must(w.Create(t.Context(), &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: controllers.RoleBindingName, Finalizers: []string{v1alpha1.GrantFinalizer}},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: w.namespace},
		Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: w.namespace}},
	}))
	settings := rest.CopyConfig(w.server)
	settings.Impersonate.UserName = w.namespace
	manager, err := client.New(settings, client.Options{Scheme: testScheme(t)})
	w.must(err)
	return &bound{world: w, manager: manager, cached: w.Client}
}

// reconcile makes one pass over the namespace.
func (b *bound) reconcile() ctrl.Result {
	b.t.Helper()
	r := &controllers.NamespaceReconciler{Client: readsElsewhere{Client: b.manager, reader: b.cached}, Live: b.manager, Namespaces: []string{b.namespace}}
	result, err := r.Reconcile(b.t.Context(), ctrl.Request{NamespacedName: client.ObjectKey{Name: b.namespace}})
	b.must(err)
	return result
}

// readsElsewhere is a client that reads from a cache.
type readsElsewhere struct {
	client.Client
	reader client.Reader
}

func (c readsElsewhere) Get(ctx context.Context, key client.ObjectKey, object client.Object, options ...client.GetOption) error {
	return c.reader.Get(ctx, key, object, options...)
}

func (c readsElsewhere) List(ctx context.Context, list client.ObjectList, options ...client.ListOption) error {
	return c.reader.List(ctx, list, options...)
}

// emptyCache knows the namespaces, and nothing in them yet.
type emptyCache struct{ client.Reader }

func (emptyCache) List(context.Context, client.ObjectList, ...client.ListOption) error { return nil }

// bindingState says what has become of the RoleBinding.
func (b *bound) bindingState() string {
	b.t.Helper()
	binding := &rbacv1.RoleBinding{}
	err := b.Get(b.t.Context(), client.ObjectKey{Namespace: b.namespace, Name: controllers.RoleBindingName}, binding)
	switch {
	case apierrors.IsNotFound(err):
		return "gone"
	case err != nil:
		b.t.Fatal(err)
	case len(binding.Finalizers) == 0:
		return "free"
	}
	return "kept"
}

// Deleting a namespace goes no further here than its timestamp: there is no kube-controller-manager. test/deletion has
// one.
func (b *bound) deleteNamespace() {
	b.t.Helper()
	b.must(b.Delete(b.t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: b.namespace}}))
}

func (b *bound) deleteBinding() {
	b.t.Helper()
	b.must(b.Delete(b.t.Context(), &rbacv1.RoleBinding{ObjectMeta: metav1.ObjectMeta{Namespace: b.namespace, Name: controllers.RoleBindingName}}))
}

// leftover makes an object with finalizers, and deletes it if it is to be on its way out.
func (b *bound) leftover(object client.Object, deleted bool, finalizers ...string) {
	b.t.Helper()
	object.SetNamespace(b.namespace)
	object.SetFinalizers(finalizers)
	b.must(b.Create(b.t.Context(), object))
	if deleted {
		b.must(b.Delete(b.t.Context(), object))
	}
}

func (b *bound) leftGrant(deleted bool, finalizers ...string) {
	b.t.Helper()
	b.leftover(&v1alpha1.MqttTokenGrant{ObjectMeta: metav1.ObjectMeta{Name: "press-07"}, Spec: v1alpha1.MqttTokenGrantSpec{
		InstanceRef: v1alpha1.InstanceReference{Name: "factory"}, Client: v1alpha1.Client{GroupID: "GID_line_a", DeviceID: "press-07"},
		Topics: []v1alpha1.TopicPermission{{Filter: "factory/press-07", Actions: []v1alpha1.Action{v1alpha1.ActionPublish}}},
	}}, deleted, finalizers...)
}

func (b *bound) leftSecret(kind corev1.SecretType, deleted bool, finalizers ...string) {
	b.t.Helper()
	b.leftover(&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "press-07"}, Type: kind}, deleted, finalizers...)
}

func TestTheRoleBindingGoesLast(t *testing.T) {
	const soon, later = time.Second, 10 * time.Second
	other := "example.com/finalizer"
	for sentence, tc := range map[string]struct {
		act       func(*bound)
		want      string
		wantAgain time.Duration
	}{
		"not while nothing is deleted":                      {act: func(*bound) {}, want: "kept", wantAgain: later},
		"not while nothing is deleted though much is there": {act: func(b *bound) { b.leftGrant(false, v1alpha1.GrantFinalizer) }, want: "kept", wantAgain: later},
		"with an empty namespace":                           {act: func(b *bound) { b.deleteNamespace() }, want: "free", wantAgain: later},
		"when it is deleted itself":                         {act: func(b *bound) { b.deleteBinding() }, want: "gone", wantAgain: later},
		"not when it is deleted under a grant":              {act: func(b *bound) { b.leftGrant(false); b.deleteBinding() }, want: "kept", wantAgain: later},
		"not when it is deleted under a grant that the cache does not show yet": {
			act:  func(b *bound) { b.cached = emptyCache{b.Client}; b.leftGrant(false); b.deleteBinding() },
			want: "kept", wantAgain: soon,
		},
		"not before a grant": {
			act: func(b *bound) { b.leftGrant(true, v1alpha1.GrantFinalizer); b.deleteNamespace() }, want: "kept", wantAgain: soon,
		},
		"not before a grant that is not being deleted yet": {
			act: func(b *bound) { b.leftGrant(false); b.deleteNamespace() }, want: "kept", wantAgain: soon,
		},
		"although somebody else keeps a grant": {
			act: func(b *bound) { b.leftGrant(true, other); b.deleteNamespace() }, want: "free", wantAgain: later,
		},
		"not before an instance that is in use": {
			act:  func(b *bound) { b.leftover(b.instance(), true, v1alpha1.InstanceFinalizer); b.deleteNamespace() },
			want: "kept", wantAgain: soon,
		},
		"not before a token Secret whose grant is gone": {
			act:  func(b *bound) { b.leftSecret(credsecret.Type, true, v1alpha1.GrantFinalizer); b.deleteNamespace() },
			want: "kept", wantAgain: soon,
		},
		"not before a token Secret that nobody deletes": {
			act:  func(b *bound) { b.leftSecret(credsecret.Type, false, v1alpha1.GrantFinalizer); b.deleteBinding() },
			want: "kept", wantAgain: later,
		},
		"although a token Secret is there that nothing waits for": {
			act: func(b *bound) { b.leftSecret(credsecret.Type, false); b.deleteBinding() }, want: "gone", wantAgain: later,
		},
		"although somebody else keeps a token Secret": {
			act: func(b *bound) { b.leftSecret(credsecret.Type, true, other); b.deleteNamespace() }, want: "free", wantAgain: later,
		},
		"not before what the cache does not show yet": {
			act: func(b *bound) {
				b.cached = emptyCache{b.Client}
				b.leftGrant(true, v1alpha1.GrantFinalizer)
				b.deleteNamespace()
			},
			want: "kept", wantAgain: soon,
		},
		"although the API server has Secrets that are not ours": {
			act: func(b *bound) {
				b.cached = emptyCache{b.Client}
				b.leftSecret(corev1.SecretTypeOpaque, false)
				b.deleteNamespace()
			},
			want: "free", wantAgain: later,
		},
		"and it is no error that it is gone": {
			act: func(b *bound) { b.deleteNamespace(); b.reconcile(); b.deleteBinding() }, want: "gone", wantAgain: later,
		},
	} {
		t.Run(sentence, func(t *testing.T) {
			b := newBound(t)
			tc.act(b)
			again := b.reconcile().RequeueAfter
			if got := b.bindingState(); got != tc.want {
				t.Errorf("the RoleBinding is %s, want it %s", got, tc.want)
			}
			if again != tc.wantAgain {
				t.Errorf("looks again after %s, want %s", again, tc.wantAgain)
			}
		})
	}
}

// What is outside the namespaces of the cache does not exist, for controllers that wait for it.
func TestTheCacheEndsAtItsNamespaces(t *testing.T) {
	w, elsewhere := newWorld(t), newWorldAt(t, server)
	for _, world := range []*world{w, elsewhere} {
		world.must(world.Create(t.Context(), world.instance()))
	}
	options := controllers.CacheOptions(w.namespace)
	options.Scheme = testScheme(t)
	cached, err := controllers.NewCache(w.server, options)
	w.must(err)
	for _, kind := range []client.Object{&v1alpha1.MqttInstance{}, &corev1.Namespace{}} {
		_, err := cached.GetInformer(t.Context(), kind)
		w.must(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- cached.Start(ctx) }()
	t.Cleanup(func() { cancel(); w.must(<-done) })
	if !cached.WaitForCacheSync(t.Context()) {
		t.Fatal("the cache never was in sync")
	}
	names := func(options ...client.ListOption) (found []string) {
		list := &v1alpha1.MqttInstanceList{}
		w.must(cached.List(t.Context(), list, options...))
		for _, item := range list.Items {
			found = append(found, item.Namespace)
		}
		return found
	}
	w.must(cached.Get(t.Context(), keyOf(w.instance()), &v1alpha1.MqttInstance{}))
	w.must(cached.Get(t.Context(), client.ObjectKey{Name: elsewhere.namespace}, &corev1.Namespace{}))
	if err := cached.Get(t.Context(), keyOf(elsewhere.instance()), &v1alpha1.MqttInstance{}); !apierrors.IsNotFound(err) {
		t.Errorf("an instance elsewhere: got %v, want that there is none", err)
	}
	for sentence, tc := range map[string]struct {
		options []client.ListOption
		want    []string
	}{
		"everything":        {want: []string{w.namespace}},
		"in the namespace":  {options: []client.ListOption{client.InNamespace(w.namespace)}, want: []string{w.namespace}},
		"in another one":    {options: []client.ListOption{client.InNamespace(elsewhere.namespace)}},
		"in one that is no": {options: []client.ListOption{client.InNamespace("nowhere")}},
	} {
		if diff := cmp.Diff(tc.want, names(tc.options...)); diff != "" {
			t.Errorf("%s: %s", sentence, diff)
		}
	}
}
