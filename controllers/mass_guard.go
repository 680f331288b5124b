package controllers

import (
	"context"
	"fmt"
	"maps"
	"strconv"
	"sync"
	"time"

	apimeta "k8s.io/apimachinery/pkg/api/meta"
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
// use. A process that starts lets denials settle anew, and goes on holding what the instance's condition says is held.
type MassGuard struct {
	cache        client.Reader
	wakeInstance func(instance types.NamespacedName)
	wakeGrants   func(instance types.NamespacedName)

	mu        sync.Mutex
	instances map[types.NamespacedName]*denials
	grants    map[types.NamespacedName]types.NamespacedName // the instance that a grant is noted at
}

// fleet holds the grants of an instance that have tokens.
type fleet map[types.NamespacedName]standing

// standing is how a grant stands with the rules of its instance.
type standing struct {
	denied bool
	// byRules says that the rules did that, and not an edit of the grant: what its own owner gives away is no mistake of the
	// platform's, and must not keep a real denial waiting.
	byRules bool
}

// denial is what the guard notes of a grant whose tokens are to go.
type denial struct {
	since   time.Time
	byRules bool
}

// denials is what the guard knows about the grants of one instance.
//
// What was let through within the hour counts together with what is denied now, each grant once. While the guard holds,
// that hour does not run out: else a change that came in portions would go on by itself. Neither what was confirmed nor
// what has its access back counts, so that it does not stand in the way of the next change.
type denials struct {
	uid       types.UID                          // another instance of the same name starts anew
	noted     map[types.NamespacedName]denial    // by grant
	withdrawn map[types.NamespacedName]time.Time // by grant: when it was let through without being confirmed
	held      bool
	// inherited says that an earlier process held. It knew what it had let through and this one does not, so the guard holds
	// until nothing is denied any more, or it is confirmed.
	inherited bool

	count      massCount
	counted    time.Time
	generation int64 // of the rules that were counted by
}

// massCount is how many of the grants that have tokens are about to lose them, or have of late.
type massCount struct{ denied, total int }

func (c massCount) isMass() bool { return c.denied > fewGrants && c.denied*100 > c.total*fewShare }

// guardVerdict says what may become of a denied grant's tokens; the zero value: they stay.
type guardVerdict struct {
	// proceed says that they may be taken.
	proceed bool
	// wait is when to ask again; zero: not before something changes.
	wait time.Duration
}

// NewMassGuard returns a guard that counts grants in a cache. It wakes the controller of an instance when there is
// something to tell about it, and its grants when they are held no more.
func NewMassGuard(cache client.Reader, connections *Connections) *MassGuard {
	return &MassGuard{
		cache: cache, wakeInstance: connections.wakeInstance.send, wakeGrants: connections.wakeGrants.send,
		instances: map[types.NamespacedName]*denials{}, grants: map[types.NamespacedName]types.NamespacedName{},
	}
}

// judge says whether the denial of a grant may take its tokens now. The rules did that unless somebody tampered with the
// Secret that holds them.
func (g *MassGuard) judge(ctx context.Context, instance *v1alpha1.MqttInstance, grant types.NamespacedName, byRules bool, now time.Time) (guardVerdict, error) {
	var verdict guardVerdict
	err := g.look(instance, func(d *denials) error {
		g.grants[grant] = client.ObjectKeyFromObject(instance)
		if verdict.wait = d.settles(grant, byRules, now); verdict.wait > 0 {
			return nil
		}
		if err := g.weigh(ctx, instance, d, now); err != nil {
			return err
		}
		verdict.proceed = !d.held
		if verdict.proceed && byRules && !confirmed(instance, v1alpha1.ConfirmRevocationAnnotation) {
			d.withdrawn[grant] = now
		}
		return nil
	})
	return verdict, err
}

// holding returns the count for which an instance's revocations are held back, as it is now.
func (g *MassGuard) holding(ctx context.Context, instance *v1alpha1.MqttInstance, now time.Time) (massCount, bool, error) {
	var count massCount
	var held bool
	err := g.look(instance, func(d *denials) error {
		if d.held {
			if err := g.weigh(ctx, instance, d, now); err != nil {
				return err
			}
		}
		count, held = d.count, d.held
		return nil
	})
	return count, held, err
}

// forget ends what is noted about a grant that is allowed, has no tokens, or is gone.
func (g *MassGuard) forget(grant types.NamespacedName) {
	g.mu.Lock()
	defer g.mu.Unlock()
	instance, noted := g.grants[grant]
	if !noted {
		return
	}
	delete(g.grants, grant)
	if d, known := g.instances[instance]; known {
		delete(d.noted, grant)
	}
}

// confirmed reports whether somebody agreed to what follows from the instance as it is.
func confirmed(instance *v1alpha1.MqttInstance, annotation string) bool {
	return instance.Annotations[annotation] == strconv.FormatInt(instance.Generation, 10)
}

// look works on what is known of an instance, and has it told when the guard begins or ceases to hold.
func (g *MassGuard) look(instance *v1alpha1.MqttInstance, work func(*denials) error) error {
	key := client.ObjectKeyFromObject(instance)
	g.mu.Lock()
	d := g.of(instance)
	before := d.held
	err := work(d)
	after := d.held
	g.mu.Unlock()
	if before != after {
		g.wakeInstance(key)
	}
	if before && !after {
		g.wakeGrants(key)
	}
	return err
}

// of returns what is known of an instance. The caller holds the lock.
func (g *MassGuard) of(instance *v1alpha1.MqttInstance) *denials {
	key := client.ObjectKeyFromObject(instance)
	d, known := g.instances[key]
	if !known || d.uid != instance.UID {
		told := apimeta.IsStatusConditionTrue(instance.Status.Conditions, v1alpha1.MassRevocationHeldCondition)
		d = newDenials(instance.UID, told)
		g.instances[key] = d
	}
	return d
}

// weigh brings the count up to date, if need be. The caller holds the lock: those that ask meanwhile share the count.
func (g *MassGuard) weigh(ctx context.Context, instance *v1alpha1.MqttInstance, d *denials, now time.Time) error {
	if confirmed(instance, v1alpha1.ConfirmRevocationAnnotation) {
		d.confirm()
		return nil
	}
	if age := now.Sub(d.counted); age >= 0 && age < countLasts && d.generation == instance.Generation {
		return nil
	}
	grants, err := g.census(ctx, instance, d)
	if err != nil {
		return err
	}
	d.weigh(grants, now)
	d.counted, d.generation = now, instance.Generation
	return nil
}

func newDenials(uid types.UID, held bool) *denials {
	return &denials{
		uid: uid, held: held, inherited: held,
		noted: map[types.NamespacedName]denial{}, withdrawn: map[types.NamespacedName]time.Time{},
	}
}

// settles notes a denial and says how long it has to stand yet.
func (d *denials) settles(grant types.NamespacedName, byRules bool, now time.Time) time.Duration {
	noted, found := d.noted[grant]
	if !found || noted.since.After(now) {
		noted.since = now
	}
	noted.byRules = byRules
	d.noted[grant] = noted
	return noted.since.Add(settling).Sub(now)
}

// weigh decides whether the guard holds, given who has tokens and who of them is denied.
func (d *denials) weigh(grants fleet, now time.Time) {
	maps.DeleteFunc(d.withdrawn, func(grant types.NamespacedName, at time.Time) bool {
		stands, hasTokens := grants[grant]
		return hasTokens && !stands.denied || !d.held && now.Sub(at) > withdrawalsCount
	})
	anyDenied, byRules := false, 0
	for _, stands := range grants {
		anyDenied = anyDenied || stands.denied
		if stands.byRules {
			byRules++
		}
	}
	taken := 0
	for grant := range d.withdrawn {
		if _, hasTokens := grants[grant]; !hasTokens {
			taken++
		}
	}
	d.count = massCount{denied: byRules + taken, total: len(grants) + taken}
	d.inherited = d.inherited && anyDenied
	d.held = d.inherited || byRules > 0 && d.count.isMass()
}

// confirm lets everything through, and holds nothing of it against what comes next.
func (d *denials) confirm() {
	d.held, d.inherited = false, false
	clear(d.withdrawn)
	d.counted = time.Time{}
}

// census says which of the instance's grants have tokens and how these stand with its rules, as the caches have them.
func (g *MassGuard) census(ctx context.Context, instance *v1alpha1.MqttInstance, d *denials) (fleet, error) {
	key := client.ObjectKeyFromObject(instance)
	var list v1alpha1.MqttTokenGrantList
	if err := g.cache.List(ctx, &list, client.MatchingFields{instanceIndex: key.String()}, client.UnsafeDisableDeepCopy); err != nil {
		return nil, fmt.Errorf("counting the grants of %s: %w", key, err)
	}
	grants, rules := fleet{}, map[string][]policy.Rule{}
	for i := range list.Items {
		grant := &list.Items[i]
		if len(grant.Status.Tokens) == 0 || !grant.DeletionTimestamp.IsZero() {
			continue
		}
		if _, known := rules[grant.Namespace]; !known {
			namespace, err := namespaceOf(ctx, g.cache, grant.Namespace)
			if err != nil {
				return nil, err
			}
			rules[grant.Namespace] = desired.Rules(instance, grant.Namespace, namespace.Labels)
		}
		denied := isDenied(grant, rules[grant.Namespace])
		grants[client.ObjectKeyFromObject(grant)] = standing{denied: denied, byRules: denied && d.isByRules(grant)}
	}
	return grants, nil
}

// isDenied is false for a spec that cannot be understood: that takes nothing away. Nor does a validity that is too long;
// it only keeps the tokens from being renewed.
func isDenied(grant *v1alpha1.MqttTokenGrant, rules []policy.Rule) bool {
	spec, err := desired.FromGrant(&grant.Spec)
	if err != nil {
		return false
	}
	request := spec.Request(grant)
	request.Validity = 0
	return len(policy.Check(rules, request)) > 0
}

// isByRules tells a denial by the rules from one that the grant's owner asked for. One that nobody has judged yet is by the
// rules if this very spec was allowed: its owner can write neither that condition nor the generation.
func (d *denials) isByRules(grant *v1alpha1.MqttTokenGrant) bool {
	if noted, found := d.noted[client.ObjectKeyFromObject(grant)]; found {
		return noted.byRules
	}
	c := apimeta.FindStatusCondition(grant.Status.Conditions, v1alpha1.AuthorizedCondition)
	return c != nil && c.Status == metav1.ConditionTrue && c.ObservedGeneration == grant.Generation
}
