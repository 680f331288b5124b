package controllers

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	corev1ac "k8s.io/client-go/applyconfigurations/core/v1"
	metav1ac "k8s.io/client-go/applyconfigurations/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"
	"sigs.k8s.io/structured-merge-diff/v6/value"

	"github.com/mqtt-token-operator/mqtt-token-operator/api/v1alpha1"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/credsecret"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/desired"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/killpoint"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/plan"
)

// secretView is what is known about a grant's Secret. Payload is read only in a live view.
type secretView struct {
	state   plan.SecretState
	meta    metav1.ObjectMeta
	uid     string // of the grant that the fingerprints are keyed with
	live    bool   // read from the API server, payload included
	facts   credsecret.Facts
	record  credsecret.Record
	touched bool // somebody else wrote what is ours
	damaged bool // the facts, or in a live view the tokens, are not what we wrote
	// immutable says that somebody made the Secret immutable, so that nothing can be written to it.
	immutable bool
	// going says that somebody deleted the Secret; our finalizer keeps it until its tokens are known elsewhere.
	going bool
	// err says why the API server does not show the Secret. What is known of it then comes from the cache.
	err error
}

// tampered reports whether the facts may be somebody else's.
func (v secretView) tampered() bool { return v.touched || v.damaged }

// planState is the state for decisions: a Secret that may not be read is not decided on.
func (v secretView) planState() plan.SecretState {
	if v.err != nil {
		return plan.SecretUnreadable
	}
	return v.state
}

// held is what plan needs to know of it.
func (v secretView) held() plan.Held {
	f := v.facts
	held := plan.Held{
		ScopeID: f.Scope, Client: f.Client, KeyID: f.KeyID, Reissue: f.Reissue, Rendering: f.Rendering, Issued: f.Issued,
		Touched: v.touched, Damaged: v.damaged, Going: v.going,
	}
	for _, t := range f.Tokens {
		held.Tokens = append(held.Tokens, plan.HeldToken{Fingerprint: t.Fingerprint, Expires: t.Expires})
	}
	for _, t := range f.Retired {
		held.Retired = append(held.Retired, plan.Retired{Fingerprint: t.Fingerprint, KeyID: t.KeyID, Expires: t.Expires, RevokeAt: t.RevokeAt})
	}
	return held
}

// cachedSecret looks at the metadata of the Secret in the cache, which holds only Secrets of our type.
func (r *GrantReconciler) cachedSecret(ctx context.Context, grant *v1alpha1.MqttTokenGrant) (secretView, error) {
	meta := &metav1.PartialObjectMetadata{}
	meta.SetGroupVersionKind(secretKind())
	switch err := r.Get(ctx, secretKey(grant), meta); {
	case apierrors.IsNotFound(err):
		return secretView{state: plan.SecretMissing}, nil
	case err != nil:
		return secretView{}, fmt.Errorf("reading Secret %s from the cache: %w", secretKey(grant), err)
	}
	return r.viewOf(ctx, grant, meta.ObjectMeta), nil
}

// liveSecret reads the Secret from the API server. That it may not be read is a fact of its own; other faults pass and
// are the queue's.
func (r *GrantReconciler) liveSecret(ctx context.Context, grant *v1alpha1.MqttTokenGrant) (secretView, error) {
	secret := &corev1.Secret{}
	switch err := r.Live.Get(ctx, secretKey(grant), secret); {
	case apierrors.IsNotFound(err):
		return secretView{state: plan.SecretMissing}, nil
	case apierrors.IsForbidden(err):
		view, cacheErr := r.cachedSecret(ctx, grant)
		view.err = fmt.Errorf("reading Secret %s: %w", secretKey(grant), err)
		return view, cacheErr
	case err != nil:
		return secretView{}, fmt.Errorf("reading Secret %s: %w", secretKey(grant), err)
	}
	view := r.viewOf(ctx, grant, secret.ObjectMeta)
	if secret.Type != credsecret.Type {
		view.state = plan.SecretForeign
	}
	if view.state == plan.SecretForeign {
		return view, nil
	}
	view.live = true
	view.immutable = ptr.Deref(secret.Immutable, false)
	record, err := credsecret.ReadRecord(secret)
	if err != nil || !record.Matches(view.facts, view.uid) {
		view.damaged = true
	}
	if view.facts.Version == 0 || len(view.facts.Tokens) == 0 && len(record.Tokens) > 0 { // somebody took the facts away; the tokens live on
		view.record = record.Bounded()
		return view, nil
	}
	view.record = record.Known(view.facts, view.uid)
	return view, nil
}

func (r *GrantReconciler) viewOf(ctx context.Context, grant *v1alpha1.MqttTokenGrant, meta metav1.ObjectMeta) secretView {
	view := secretView{state: plan.SecretForeign, meta: meta, uid: string(grant.UID)}
	switch {
	case r.isOurs(grant, meta):
		view.state = plan.SecretOurs
	case r.isInherited(ctx, grant, meta):
		view.state, view.uid = plan.SecretInherited, meta.Annotations[credsecret.GrantUIDAnnotation]
	default:
		return view
	}
	view.going = !meta.DeletionTimestamp.IsZero()
	facts, err := credsecret.ReadFacts(&meta)
	view.facts, view.damaged = facts, err != nil
	return view
}

// isOurs tells our Secret from everybody else's: the controller reference is the grant's, or, where somebody stripped
// it, the annotations are. A Secret that a backup brought from another cluster carries that cluster's id.
func (r *GrantReconciler) isOurs(grant *v1alpha1.MqttTokenGrant, meta metav1.ObjectMeta) bool {
	cluster, stated := meta.Annotations[credsecret.ClusterIDAnnotation]
	if stated && cluster != r.ClusterID {
		return false
	}
	if owner := metav1.GetControllerOfNoCopy(&meta); owner != nil {
		return owner.UID == grant.UID
	}
	return stated && meta.Annotations[credsecret.GrantUIDAnnotation] == string(grant.UID)
}

// isTouched reports whether somebody else wrote, or removed, what is ours. Whoever changes or removes a field takes it
// from us in managedFields, so the API server keeps that record and no payload is needed. Without a layout only the
// facts are looked at.
func (v secretView) isTouched(manager string, layout *credsecret.Layout) bool {
	if v.state != plan.SecretOurs {
		return false
	}
	ours := fieldpath.NewSet()
	for _, entry := range v.meta.ManagedFields {
		if entry.Manager != manager || entry.Operation != metav1.ManagedFieldsOperationApply || entry.FieldsV1 == nil {
			continue
		}
		fields := &fieldpath.Set{}
		if fields.FromJSON(entry.FieldsV1.GetRawReader()) != nil {
			return true
		}
		ours = ours.Union(fields)
	}
	for _, path := range v.ownPaths(layout) {
		if !ours.Has(path) {
			return true
		}
	}
	return metav1.GetControllerOfNoCopy(&v.meta) == nil
}

// ownPaths lists the fields that nobody else may have written.
func (v secretView) ownPaths(layout *credsecret.Layout) []fieldpath.Path {
	annotation := func(key string) fieldpath.Path { return fieldpath.MakePathOrDie("metadata", "annotations", key) }
	paths := []fieldpath.Path{
		fieldpath.MakePathOrDie("metadata", "finalizers", value.NewValueInterface(v1alpha1.GrantFinalizer)),
		annotation(credsecret.FactsAnnotation), annotation(credsecret.GrantUIDAnnotation), annotation(credsecret.ClusterIDAnnotation),
		fieldpath.MakePathOrDie("metadata", "labels", credsecret.GrantLabel),
	}
	if layout == nil || layout.ID() != v.facts.Rendering {
		return paths
	}
	keys, err := layout.Keys(len(v.facts.Tokens) > 0)
	if err != nil {
		return paths // the template is at fault, and the next write says so
	}
	for key := range keys {
		paths = append(paths, fieldpath.MakePathOrDie("data", key))
	}
	for key := range layout.Labels {
		paths = append(paths, fieldpath.MakePathOrDie("metadata", "labels", key))
	}
	for key := range layout.Annotations {
		paths = append(paths, annotation(key))
	}
	return paths
}

// fieldManager names the one writer of a grant's Secret.
func fieldManager(grant *v1alpha1.MqttTokenGrant) string { return managerOf(string(grant.UID)) }

func managerOf(grantUID string) string { return "mqtt-token-grant-" + grantUID }

// writeSecret writes everything in one server-side apply, so that no reader sees half of it. A first write is not
// forced: it fails on a Secret that appeared meanwhile. Later ones name the version they replace, so that a writer that
// decided on old knowledge fails instead of overwriting.
func (r *GrantReconciler) writeSecret(ctx context.Context, seen observation, rendered *corev1.Secret) (secretView, error) {
	facts, err := credsecret.ReadFacts(&rendered.ObjectMeta)
	if err != nil {
		return secretView{}, err
	}
	apply := corev1ac.Secret(rendered.Name, rendered.Namespace).WithType(rendered.Type).
		WithLabels(rendered.Labels).WithAnnotations(rendered.Annotations).WithFinalizers(v1alpha1.GrantFinalizer).WithData(rendered.Data).
		WithOwnerReferences(metav1ac.OwnerReference().WithAPIVersion(v1alpha1.GroupVersion().String()).WithKind(grantKind).
			WithName(seen.grant.Name).WithUID(seen.grant.UID).WithController(true).WithBlockOwnerDeletion(true))
	options := []client.ApplyOption{client.FieldOwner(fieldManager(seen.grant))}
	if seen.secret.state == plan.SecretOurs {
		apply = apply.WithUID(seen.secret.meta.UID).WithResourceVersion(seen.secret.meta.ResourceVersion)
		options = append(options, client.ForceOwnership)
	}
	if err := r.Apply(ctx, apply, options...); err != nil {
		return secretView{}, fmt.Errorf("writing Secret %s: %w", secretKey(seen.grant), err)
	}
	killpoint.Reached(killpoint.AfterSecret)
	written := secretView{state: plan.SecretOurs, meta: rendered.ObjectMeta, uid: string(seen.grant.UID), facts: facts}
	written.meta.ResourceVersion = ptr.Deref(apply.ResourceVersion, "")
	r.recent.note(seen.grant, func(g *recentGrant) {
		g.unsaved, g.secretVersion = nil, written.meta.ResourceVersion
	})
	return written, nil
}

// letSecretGo deletes the Secret that was seen, and no other of its name. Our finalizer goes first, in a write that
// fails if the Secret is not the one that was read: what it holds must be known elsewhere by now.
func (r *GrantReconciler) letSecretGo(ctx context.Context, seen observation) error {
	secret := &metav1.PartialObjectMetadata{ObjectMeta: *seen.secret.meta.DeepCopy()}
	secret.SetGroupVersionKind(secretKind())
	secret.Namespace, secret.ManagedFields = seen.grant.Namespace, nil
	before := secret.DeepCopy()
	if controllerutil.RemoveFinalizer(secret, v1alpha1.GrantFinalizer) {
		if err := client.IgnoreNotFound(r.Patch(ctx, secret, onlyIfUnchanged(before))); err != nil {
			return fmt.Errorf("releasing Secret %s: %w", secretKey(seen.grant), err)
		}
	}
	if seen.secret.going {
		return nil
	}
	err := r.Delete(ctx, secret, client.Preconditions{UID: &seen.secret.meta.UID})
	if client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("deleting Secret %s: %w", secretKey(seen.grant), err)
	}
	return nil
}

func secretKey(grant *v1alpha1.MqttTokenGrant) types.NamespacedName {
	return types.NamespacedName{Namespace: grant.Namespace, Name: desired.SecretName(grant)}
}

func secretKind() schema.GroupVersionKind { return corev1.SchemeGroupVersion.WithKind("Secret") }

// NamespaceKind is the kind of which the manager reads metadata only.
func NamespaceKind() schema.GroupVersionKind { return corev1.SchemeGroupVersion.WithKind("Namespace") }
