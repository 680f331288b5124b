package controllers

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/mqtt-token-operator/mqtt-token-operator/api/v1alpha1"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/desired"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/policy"
)

const (
	// settling is how long a denial must stand before it takes anything: all grants that one change denies are known then.
	settling = 10 * time.Second
	// countLasts is how long a count of an instance's denied grants is good for those that ask next.
	countLasts = 2 * time.Second
	// withdrawalsCount is for how long what was taken is held against what is about to be: a change that arrives in
	// portions, such as one label after the other, is still one change.
	withdrawalsCount = time.Hour
	// fewGrants and fewShare bound what a change may take without being confirmed.
	fewGrants = 20
	fewShare  = 10 // percent
)

// MassGuard keeps a mistake in a rule or a label from taking access from many clients at once. It is safe for concurrent
// use. What it knows is lost with the process, which makes denials settle anew and takes nothing.
type MassGuard struct {
	cache client.Reader
	wake  func(instance types.NamespacedName)

	mu        sync.Mutex
	instances map[types.NamespacedName]*denials
	grants    map[types.NamespacedName]types.NamespacedName // the instance that a grant is noted at
}

// denials is what the guard knows about the grants of one instance.
type denials struct {
	since     map[types.NamespacedName]time.Time // by grant: when its denial was first seen
	withdrawn map[types.NamespacedName]time.Time // by grant: when it was let through
	count     massCount
	counted   time.Time
	held      bool
}

// massCount is how many of the grants that have tokens are about to lose them, or have of late.
type massCount struct{ denied, total int }

func (c massCount) isMass() bool { return c.denied > max(fewGrants, c.total*fewShare/100) }

// guardVerdict says what may become of a denied grant's tokens; the zero value: they stay.
type guardVerdict struct {
	// proceed says that they may be taken.
	proceed bool
	// wait is when to ask again; zero: not before something changes.
	wait time.Duration
}

// NewMassGuard returns a guard that counts grants in a cache, and wakes the controller of an instance when there is
// something to tell about it.
func NewMassGuard(cache client.Reader, connections *Connections) *MassGuard {
	return &MassGuard{
		cache: cache, wake: connections.wakeInstance.send,
		instances: map[types.NamespacedName]*denials{}, grants: map[types.NamespacedName]types.NamespacedName{},
	}
}

// judge says whether the denial of a grant may take its tokens now.
func (g *MassGuard) judge(ctx context.Context, instance *v1alpha1.MqttInstance, grant types.NamespacedName, now time.Time) (guardVerdict, error) {
	key := client.ObjectKeyFromObject(instance)
	if left := g.settles(key, grant, now); left > 0 {
		return guardVerdict{wait: left}, nil
	}
	if confirmed(instance, v1alpha1.ConfirmRevocationAnnotation) {
		g.pass(key, grant, now)
		return guardVerdict{proceed: true}, nil
	}
	count, err := g.census(ctx, instance, now)
	if err != nil {
		return guardVerdict{}, err
	}
	if count.isMass() {
		g.hold(key, true)
		return guardVerdict{}, nil
	}
	g.pass(key, grant, now)
	return guardVerdict{proceed: true}, nil
}

// confirmed reports whether somebody agreed to what follows from the instance as it is.
func confirmed(instance *v1alpha1.MqttInstance, annotation string) bool {
	return instance.Annotations[annotation] == strconv.FormatInt(instance.Generation, 10)
}

// settles notes a denial and says how long it has to stand yet.
func (g *MassGuard) settles(instance, grant types.NamespacedName, now time.Time) time.Duration {
	g.mu.Lock()
	defer g.mu.Unlock()
	d := g.of(instance)
	g.grants[grant] = instance
	since, found := d.since[grant]
	if !found || since.After(now) {
		d.since[grant], since = now, now
	}
	return since.Add(settling).Sub(now)
}

// of returns what is known of an instance. The caller holds the lock.
func (g *MassGuard) of(instance types.NamespacedName) *denials {
	d, found := g.instances[instance]
	if !found {
		d = &denials{since: map[types.NamespacedName]time.Time{}, withdrawn: map[types.NamespacedName]time.Time{}}
		g.instances[instance] = d
	}
	return d
}

// pass notes that a grant's tokens may be taken.
func (g *MassGuard) pass(instance, grant types.NamespacedName, now time.Time) {
	g.mu.Lock()
	g.of(instance).withdrawn[grant] = now
	g.mu.Unlock()
	g.hold(instance, false)
}

// hold notes whether the guard holds an instance's revocations back, and has that told when it is new.
func (g *MassGuard) hold(instance types.NamespacedName, held bool) {
	g.mu.Lock()
	d := g.of(instance)
	changed := d.held != held
	d.held = held
	g.mu.Unlock()
	if changed {
		g.wake(instance)
	}
}

// forget ends what is noted about a grant that is allowed, has no tokens, or is gone.
func (g *MassGuard) forget(grant types.NamespacedName) {
	g.mu.Lock()
	instance, noted := g.grants[grant]
	if !noted {
		g.mu.Unlock()
		return
	}
	d := g.of(instance)
	delete(g.grants, grant)
	delete(d.since, grant)
	last := len(d.since) == 0
	g.mu.Unlock()
	if last {
		g.hold(instance, false)
	}
}

// holding returns the count for which an instance's revocations are held back.
func (g *MassGuard) holding(instance types.NamespacedName) (massCount, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	d, found := g.instances[instance]
	if !found {
		return massCount{}, false
	}
	return d.count, d.held
}

// census counts the instance's grants that have tokens, and those of them that its rules deny, as the caches have them.
// Those that ask within moments share one count.
func (g *MassGuard) census(ctx context.Context, instance *v1alpha1.MqttInstance, now time.Time) (massCount, error) {
	key := client.ObjectKeyFromObject(instance)
	g.mu.Lock()
	defer g.mu.Unlock()
	d := g.of(key)
	if age := now.Sub(d.counted); age >= 0 && age < countLasts {
		return d.count, nil
	}
	count, err := g.countDenied(ctx, instance)
	if err != nil {
		return massCount{}, err
	}
	for grant, at := range d.withdrawn {
		if now.Sub(at) > withdrawalsCount {
			delete(d.withdrawn, grant)
		}
	}
	count.denied += len(d.withdrawn)
	count.total += len(d.withdrawn)
	d.count, d.counted = count, now
	return count, nil
}

func (g *MassGuard) countDenied(ctx context.Context, instance *v1alpha1.MqttInstance) (massCount, error) {
	key := client.ObjectKeyFromObject(instance)
	var grants v1alpha1.MqttTokenGrantList
	if err := g.cache.List(ctx, &grants, client.MatchingFields{instanceIndex: key.String()}, client.UnsafeDisableDeepCopy); err != nil {
		return massCount{}, fmt.Errorf("counting the grants of %s: %w", key, err)
	}
	var count massCount
	rules := map[string][]policy.Rule{}
	for i := range grants.Items {
		grant := &grants.Items[i]
		if len(grant.Status.Tokens) == 0 || !grant.DeletionTimestamp.IsZero() {
			continue
		}
		if _, known := rules[grant.Namespace]; !known {
			labels, err := g.labelsOf(ctx, grant.Namespace)
			if err != nil {
				return massCount{}, err
			}
			rules[grant.Namespace] = desired.Rules(instance, grant.Namespace, labels)
		}
		count.total++
		if spec, err := desired.FromGrant(&grant.Spec); err == nil && len(policy.Check(rules[grant.Namespace], spec.Request(grant))) > 0 {
			count.denied++
		}
	}
	return count, nil
}

func (g *MassGuard) labelsOf(ctx context.Context, name string) (map[string]string, error) {
	namespace := &metav1.PartialObjectMetadata{}
	namespace.SetGroupVersionKind(NamespaceKind())
	if err := client.IgnoreNotFound(g.cache.Get(ctx, types.NamespacedName{Name: name}, namespace)); err != nil {
		return nil, fmt.Errorf("reading namespace %s: %w", name, err)
	}
	return namespace.Labels, nil
}
