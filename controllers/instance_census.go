package controllers

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/mqtt-token-operator/mqtt-token-operator/api/v1alpha1"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/desired"
)

const (
	// countDelay gathers what happens to an instance's grants into one status write.
	countDelay = 10 * time.Second
	// recount is how often the grants of an instance are counted although nothing happened: who would lose access when is a
	// matter of time.
	recount = time.Minute
)

// census is what an instance's grants add up to.
type census struct {
	total, ready int
	// survivesUntil is when the first token of a grant that is Ready ends; zero without one.
	survivesUntil time.Time
	within        [3]int // of the horizons
	// leaning counts grants that revoke over the instance, or will when they are deleted.
	leaning int
	// keys are the AccessKey ids in use.
	keys map[string]bool
}

// maxKeys is how many AccessKey ids a status lists.
const maxKeys = 16

func horizons() [3]time.Duration { return [3]time.Duration{time.Hour, 6 * time.Hour, 24 * time.Hour} }

// census goes once over the instance's grants, as the cache has them.
func (r *InstanceReconciler) census(ctx context.Context, instance *v1alpha1.MqttInstance, now time.Time) (census, error) {
	key := client.ObjectKeyFromObject(instance)
	var grants v1alpha1.MqttTokenGrantList
	if err := r.List(ctx, &grants, client.MatchingFields{instanceIndex: key.String()}, client.UnsafeDisableDeepCopy); err != nil {
		return census{}, fmt.Errorf("counting the grants of %s: %w", key, err)
	}
	sum := census{keys: map[string]bool{}}
	now = now.Add(r.Connections.offset(key))
	for i := range grants.Items {
		sum.add(&grants.Items[i], now)
	}
	return sum, nil
}

func (c *census) add(grant *v1alpha1.MqttTokenGrant, now time.Time) {
	c.total++
	expires := grant.Status.ExpirationTime
	alive := expires != nil && expires.After(now)
	if alive || !grant.DeletionTimestamp.IsZero() {
		c.leaning++
	}
	if id := grant.Status.AccessKeyID; alive && id != "" {
		c.keys[id] = true
	}
	if !isReady(grant.Status.Conditions) {
		return
	}
	c.ready++
	if !alive {
		return
	}
	if c.survivesUntil.IsZero() || expires.Time.Before(c.survivesUntil) {
		c.survivesUntil = expires.Time
	}
	for i, horizon := range horizons() {
		if !expires.After(now.Add(horizon)) {
			c.within[i]++
		}
	}
}

// describe puts the sums into a status.
func (c census) describe(status *v1alpha1.MqttInstanceStatus) {
	status.Grants = v1alpha1.GrantCounts{Total: count(c.total), Ready: count(c.ready)}
	status.SurvivesUntil = moment(c.survivesUntil)
	keys := slices.Sorted(maps.Keys(c.keys))
	status.AccessKeysInUse = keys[:min(len(keys), maxKeys)]
	status.Expiring = v1alpha1.ExpiringGrants{Within1h: count(c.within[0]), Within6h: count(c.within[1]), Within24h: count(c.within[2])}
}

func count(n int) *int32 { return new(int32(n)) } //nolint:gosec // far below 2^31

// countLater looks at a grant's instance after a while, once for all that happens until then.
func countLater() handler.EventHandler {
	enqueue := func(object client.Object, queue workqueue.TypedRateLimitingInterface[reconcile.Request]) {
		if grant, ok := object.(*v1alpha1.MqttTokenGrant); ok {
			queue.AddAfter(reconcile.Request{NamespacedName: desired.InstanceKey(grant)}, countDelay)
		}
	}
	return handler.Funcs{
		CreateFunc: func(_ context.Context, e event.CreateEvent, queue workqueue.TypedRateLimitingInterface[reconcile.Request]) {
			enqueue(e.Object, queue)
		},
		UpdateFunc: func(_ context.Context, e event.UpdateEvent, queue workqueue.TypedRateLimitingInterface[reconcile.Request]) {
			enqueue(e.ObjectOld, queue)
			enqueue(e.ObjectNew, queue)
		},
		DeleteFunc: func(_ context.Context, e event.DeleteEvent, queue workqueue.TypedRateLimitingInterface[reconcile.Request]) {
			enqueue(e.Object, queue)
		},
	}
}

// countChanged lets updates through that change a sum: another instance, another readiness, another expiry.
func countChanged() predicate.Predicate {
	return predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
		before, okBefore := e.ObjectOld.(*v1alpha1.MqttTokenGrant)
		after, okAfter := e.ObjectNew.(*v1alpha1.MqttTokenGrant)
		return okBefore && okAfter && (desired.InstanceKey(before) != desired.InstanceKey(after) ||
			isReady(before.Status.Conditions) != isReady(after.Status.Conditions) ||
			before.Status.AccessKeyID != after.Status.AccessKeyID ||
			!sameMoment(before.Status.ExpirationTime, after.Status.ExpirationTime))
	}}
}

func sameMoment(a, b *metav1.Time) bool { return a.Equal(b) }
