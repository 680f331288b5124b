package controllers

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/mqtt-token-operator/mqtt-token-operator/api/v1alpha1"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/desired"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/policy"
)

// Two clients with one client id knock each other off the broker, so of all grants in the cluster that ask for one at an
// instance only one is served. Who holds a client id, its status says: tenants cannot write that.

// claim is what a grant has to show for a client id.
type claim struct {
	rank    rank
	created time.Time
	uid     types.UID
}

// rank is how strong a claim is.
type rank int

const (
	asks  rank = iota
	given      // its status says that it has the client id
	lives      // and it has tokens for it that are alive, whatever its spec asks for by now
)

// before reports whether a claim goes before another one: whoever has the client id keeps it, so that nobody takes it
// away by editing an older grant; then the oldest, and of two of one second the one with the smaller UID.
func (c claim) before(other claim) bool {
	switch {
	case c.rank != other.rank:
		return c.rank > other.rank
	case !c.created.Equal(other.created):
		return c.created.Before(other.created)
	}
	return c.uid < other.uid
}

// contest is about one client id at one instance.
type contest struct {
	clientID, instanceID string
	now                  time.Time
	grants               []v1alpha1.MqttTokenGrant
}

// claimOf is a grant's own claim, or its predecessor's if that is the better one: to take over is to inherit.
func (c contest) claimOf(grant *v1alpha1.MqttTokenGrant, inherits func(heir, of *v1alpha1.MqttTokenGrant) bool) claim {
	best := c.ownClaimOf(grant)
	if grant.Annotations[v1alpha1.TakeOverAnnotation] == "" {
		return best
	}
	for i := range c.grants {
		if predecessor := &c.grants[i]; inherits(grant, predecessor) {
			if theirs := c.ownClaimOf(predecessor); theirs.before(best) {
				best.rank, best.created = theirs.rank, theirs.created
			}
		}
	}
	return best
}

func (c contest) ownClaimOf(grant *v1alpha1.MqttTokenGrant) claim {
	own := claim{created: grant.CreationTimestamp.Time, uid: grant.UID}
	if grant.Status.ClientID != c.clientID || grant.Status.InstanceID != c.instanceID {
		return own
	}
	own.rank = given
	if end := grant.Status.ExpirationTime; len(grant.Status.Tokens) > 0 && end != nil && end.After(c.now) {
		own.rank = lives
	}
	return own
}

// clientIDIndex finds the grants that ask for a client id, or have it. Those for every client of a group have none.
const clientIDIndex = "clientID"

func clientIDKeys(object client.Object) []string {
	grant, ok := object.(*v1alpha1.MqttTokenGrant)
	if !ok {
		return nil
	}
	var keys []string
	if grant.Spec.Client.DeviceID != "" {
		keys = append(keys, desired.ClientID(grant.Spec.Client))
	}
	if id := grant.Status.ClientID; strings.Contains(id, "@@@") && !slices.Contains(keys, id) {
		keys = append(keys, id)
	}
	return keys
}

// findRival returns the first of the grants that go before this one for the client id at the instance; nil if none does.
func (r *GrantReconciler) findRival(ctx context.Context, grant *v1alpha1.MqttTokenGrant, instanceID string) (*v1alpha1.MqttTokenGrant, error) {
	if !competes(grant) {
		return nil, nil //nolint:nilnil // that there is none is an answer
	}
	c, err := r.contestFor(ctx, desired.ClientID(grant.Spec.Client), instanceID)
	if err != nil {
		return nil, err
	}
	inherits := func(heir, of *v1alpha1.MqttTokenGrant) bool { return r.takesOver(ctx, heir, of) }
	mine := c.claimOf(grant, inherits)
	var first *v1alpha1.MqttTokenGrant
	var best claim
	for i := range c.grants {
		rival := &c.grants[i]
		if rival.UID == grant.UID || inherits(grant, rival) {
			continue
		}
		theirs := c.claimOf(rival, inherits)
		if !inherits(rival, grant) && !theirs.before(mine) || first != nil && best.before(theirs) {
			continue
		}
		counts, err := r.contends(ctx, rival, c, theirs)
		if err != nil {
			return nil, err
		}
		if counts {
			first, best = rival, theirs
		}
	}
	return first, nil
}

// competes reports whether a grant asks for a client id: those for every client of a group and those in deletion do not.
func competes(grant *v1alpha1.MqttTokenGrant) bool {
	return grant.Spec.Client.DeviceID != "" && grant.DeletionTimestamp.IsZero()
}

// contestFor finds the grants that ask for a client id or have it. They belong to the cache.
func (r *GrantReconciler) contestFor(ctx context.Context, id, instanceID string) (contest, error) {
	var list v1alpha1.MqttTokenGrantList
	if err := r.List(ctx, &list, client.MatchingFields{clientIDIndex: id}, client.UnsafeDisableDeepCopy); err != nil {
		return contest{}, fmt.Errorf("looking for other grants of the client id: %w", err)
	}
	return contest{clientID: id, instanceID: instanceID, now: r.Clock.Now(), grants: list.Items}, nil
}

// takesOver reports whether a grant is the heir of another one.
func (r *GrantReconciler) takesOver(ctx context.Context, heir, grant *v1alpha1.MqttTokenGrant) bool {
	return heir.Namespace == grant.Namespace && heir.Annotations[v1alpha1.TakeOverAnnotation] == grant.Name && r.mayInherit(ctx, heir)
}

// contends reports whether a grant asks for the client id with right: its MqttInstance is that instance and works, and the
// rules allow it. One that has tokens keeps its claim while a mistake in a rule, which the mass guard would hold, or an
// outage is in its way. A grant in deletion has none.
func (r *GrantReconciler) contends(ctx context.Context, grant *v1alpha1.MqttTokenGrant, c contest, its claim) (bool, error) {
	switch {
	case !grant.DeletionTimestamp.IsZero():
		return false, nil
	case c.ownClaimOf(grant).rank == lives:
		return true, nil
	case desired.ClientID(grant.Spec.Client) != c.clientID:
		return false, nil
	}
	key, instance := desired.InstanceKey(grant), &v1alpha1.MqttInstance{}
	if err := r.Get(ctx, key, instance); err != nil {
		return false, client.IgnoreNotFound(err)
	}
	spec, err := desired.FromGrant(&grant.Spec)
	switch {
	case err != nil || instance.Spec.InstanceID != c.instanceID: // a spec that cannot be understood asks for nothing
		return false, nil //nolint:nilerr // that is the answer
	case its.rank == asks && r.Connections.usable(key) == nil: // anybody can name an instance that is not theirs
		return false, nil
	}
	namespace, err := namespaceOf(ctx, r.Client, grant.Namespace)
	if err != nil {
		return false, err
	}
	return len(policy.Check(desired.Rules(instance, grant.Namespace, namespace.Labels), spec.Request(grant))) == 0, nil
}

// conflictProblem tells that the client id is taken. Who has it is told only to who may see that anyway.
func (seen observation) conflictProblem() *problem {
	holder := "A grant in another namespace"
	if seen.rival.Namespace == seen.grant.Namespace {
		holder = fmt.Sprintf("Grant %q", seen.rival.Name)
	}
	return &problem{
		reason: v1alpha1.ReasonClientIDConflict,
		message: fmt.Sprintf("%s has the client id %q at this instance already, and two clients with one id knock each other off. Choose another spec.client.deviceID; if the other grant goes, this one takes over.",
			holder, desired.ClientID(seen.grant.Spec.Client)),
	}
}

// holdClientID notes which client id the grant has after the outcome, and where: the one that it asks for, once it may have
// it; until then the one of the tokens that it has, while they are alive.
func (seen observation) holdClientID(status *v1alpha1.MqttTokenGrantStatus, out outcome) {
	before, wanted := seen.grant.Status, desired.ClientID(seen.grant.Spec.Client)
	// A grant in deletion keeps what it has, but nobody looks for others that have what it asks for.
	allowed := seen.specErr == nil && len(seen.violations) == 0 && seen.grant.DeletionTimestamp.IsZero()
	alive := out.secret.held().Expires().After(seen.input.Now) && !out.doomed
	switch {
	case allowed && seen.rival == nil && seen.link != nil:
		status.ClientID, status.InstanceID = wanted, seen.instance.Spec.InstanceID
	case seen.rival != nil && seen.rival.Status.ClientID == wanted && before.ClientID == wanted:
		// It was another instance's, or an heir has it by now; until then it inherits it.
	case alive, seen.rival != nil && before.ClientID == wanted, allowed && before.ClientID == wanted && seen.instance != nil && seen.instance.Spec.InstanceID == before.InstanceID:
		status.ClientID, status.InstanceID = before.ClientID, before.InstanceID
	}
}

// clientIDMoved lets through what can make a client id free, or take it.
func clientIDMoved() predicate.Predicate {
	return predicate.Funcs{
		CreateFunc:  func(event.CreateEvent) bool { return false }, // it looks after itself, and everybody else is older
		GenericFunc: func(event.GenericEvent) bool { return false },
		UpdateFunc: func(e event.UpdateEvent) bool {
			before, ok := e.ObjectOld.(*v1alpha1.MqttTokenGrant)
			after, alsoOK := e.ObjectNew.(*v1alpha1.MqttTokenGrant)
			return ok && alsoOK && standingOf(before) != standingOf(after)
		},
	}
}

// standingOf is what the claims of others depend on.
func standingOf(grant *v1alpha1.MqttTokenGrant) any {
	authorized := metav1.ConditionUnknown
	if c := apimeta.FindStatusCondition(grant.Status.Conditions, v1alpha1.AuthorizedCondition); c != nil {
		authorized = c.Status
	}
	return struct {
		client          v1alpha1.Client
		instance        types.NamespacedName
		has, at, heir   string
		authorized      metav1.ConditionStatus
		going, anyToken bool
	}{
		client: grant.Spec.Client, instance: desired.InstanceKey(grant),
		has: grant.Status.ClientID, at: grant.Status.InstanceID, heir: grant.Annotations[v1alpha1.TakeOverAnnotation],
		authorized: authorized, going: !grant.DeletionTimestamp.IsZero(), anyToken: len(grant.Status.Tokens) > 0,
	}
}

// rivalsOf finds the grants that ask for the same client id as one that changed.
func (r *GrantReconciler) rivalsOf(ctx context.Context, object client.Object) []reconcile.Request {
	var requests []ctrl.Request
	for _, id := range clientIDKeys(object) {
		for _, request := range r.requests(ctx, client.MatchingFields{clientIDIndex: id}) {
			if request.NamespacedName != client.ObjectKeyFromObject(object) {
				requests = append(requests, request)
			}
		}
	}
	return requests
}
