package controllers

import (
	"context"
	"fmt"
	"time"

	apimeta "k8s.io/apimachinery/pkg/api/meta"
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
	// holds says that the grant was given the client id before.
	holds   bool
	created time.Time
	uid     types.UID
}

// before reports whether a claim goes before another one: whoever holds the client id keeps it, so that nobody takes it
// away by editing an older grant; then the oldest, and of two of one second the one with the smaller UID.
func (c claim) before(other claim) bool {
	switch {
	case c.holds != other.holds:
		return c.holds
	case !c.created.Equal(other.created):
		return c.created.Before(other.created)
	}
	return c.uid < other.uid
}

func claimOf(grant *v1alpha1.MqttTokenGrant, instanceID string) claim {
	return claim{
		holds:   grant.Status.ClientID == desired.ClientID(grant.Spec.Client) && grant.Status.InstanceID == instanceID,
		created: grant.CreationTimestamp.Time, uid: grant.UID,
	}
}

// clientIDIndex finds the grants that ask for a client id. Those for every client of a group ask for none.
const clientIDIndex = "clientID"

func clientIDKeys(object client.Object) []string {
	if grant, ok := object.(*v1alpha1.MqttTokenGrant); ok && grant.Spec.Client.DeviceID != "" {
		return []string{desired.ClientID(grant.Spec.Client)}
	}
	return nil
}

// findRival returns a grant that goes before this one for the client id at the instance; nil if there is none.
func (r *GrantReconciler) findRival(ctx context.Context, grant *v1alpha1.MqttTokenGrant, instanceID string) (*v1alpha1.MqttTokenGrant, error) {
	if grant.Spec.Client.DeviceID == "" {
		return nil, nil //nolint:nilnil // that there is none is an answer
	}
	var rivals v1alpha1.MqttTokenGrantList
	if err := r.List(ctx, &rivals, client.MatchingFields{clientIDIndex: desired.ClientID(grant.Spec.Client)}, client.UnsafeDisableDeepCopy); err != nil {
		return nil, fmt.Errorf("looking for other grants of the client id: %w", err)
	}
	for i := range rivals.Items {
		rival := &rivals.Items[i]
		if rival.UID == grant.UID || takesOver(grant, rival) || !takesOver(rival, grant) && !claimOf(rival, instanceID).before(claimOf(grant, instanceID)) {
			continue
		}
		if counts, err := r.contends(ctx, rival, instanceID); err != nil || counts {
			return rival, err
		}
	}
	return nil, nil //nolint:nilnil // that there is none is an answer
}

// takesOver reports whether a grant is the heir of another one.
func takesOver(heir, grant *v1alpha1.MqttTokenGrant) bool {
	return heir.Namespace == grant.Namespace && heir.Annotations[v1alpha1.TakeOverAnnotation] == grant.Name
}

// contends reports whether a grant asks for its client id at an instance with right: its MqttInstance is that instance and
// works, and the rules allow it. One that has tokens keeps its claim while a mistake in a rule, which the mass guard would
// hold, or an outage is in its way. A grant in deletion has none.
func (r *GrantReconciler) contends(ctx context.Context, grant *v1alpha1.MqttTokenGrant, instanceID string) (bool, error) {
	key, instance := desired.InstanceKey(grant), &v1alpha1.MqttInstance{}
	if err := r.Get(ctx, key, instance); err != nil {
		return false, client.IgnoreNotFound(err)
	}
	switch {
	case instance.Spec.InstanceID != instanceID || !grant.DeletionTimestamp.IsZero():
		return false, nil
	case claimOf(grant, instanceID).holds && len(grant.Status.Tokens) > 0:
		return true, nil
	case !claimOf(grant, instanceID).holds && r.Connections.usable(key) == nil: // anybody can name an instance that is not theirs
		return false, nil
	}
	spec, err := desired.FromGrant(&grant.Spec)
	if err != nil {
		return false, nil //nolint:nilerr // a spec that cannot be understood asks for nothing
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
// it; until then the one of the tokens that it holds.
func (seen observation) holdClientID(status *v1alpha1.MqttTokenGrantStatus, out outcome) {
	before, wanted := seen.grant.Status, desired.ClientID(seen.grant.Spec.Client)
	allowed := seen.specErr == nil && len(seen.violations) == 0
	switch {
	case allowed && seen.rival == nil && seen.link != nil:
		status.ClientID, status.InstanceID = wanted, seen.instance.Spec.InstanceID
	case seen.rival != nil && before.ClientID == wanted: // it was another instance's, or an heir has it now
	case allowed && before.ClientID == wanted || len(out.secret.facts.Tokens) > 0:
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
	return struct {
		client            v1alpha1.Client
		instance          types.NamespacedName
		holds, at, heir   string
		going, authorized bool
		hasTokens         bool
	}{
		client: grant.Spec.Client, instance: desired.InstanceKey(grant),
		holds: grant.Status.ClientID, at: grant.Status.InstanceID, heir: grant.Annotations[v1alpha1.TakeOverAnnotation],
		going:      !grant.DeletionTimestamp.IsZero(),
		authorized: apimeta.IsStatusConditionTrue(grant.Status.Conditions, v1alpha1.AuthorizedCondition),
		hasTokens:  len(grant.Status.Tokens) > 0,
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
