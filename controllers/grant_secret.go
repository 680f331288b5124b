package controllers

import (
	"context"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	corev1ac "k8s.io/client-go/applyconfigurations/core/v1"
	metav1ac "k8s.io/client-go/applyconfigurations/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"

	"github.com/mqtt-token-operator/mqtt-token-operator/api/v1alpha1"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/credsecret"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/desired"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/plan"
)

// secretView is what is known about a grant's Secret. Payload is read only in a live view.
type secretView struct {
	state   plan.SecretState
	meta    metav1.ObjectMeta
	facts   credsecret.Facts
	record  credsecret.Record
	touched bool  // somebody else wrote what is ours
	damaged bool  // the facts, or in a live view the tokens, are not what we wrote
	err     error // why the Secret is unreadable
}

// held is what plan needs to know of it.
func (v secretView) held() plan.Held {
	f := v.facts
	held := plan.Held{
		ScopeID: f.Scope, Client: f.Client, KeyID: f.KeyID, Reissue: f.Reissue, Rendering: f.Rendering, Issued: f.Issued,
		Touched: v.touched, Damaged: v.damaged,
	}
	for _, t := range f.Tokens {
		held.Tokens = append(held.Tokens, plan.HeldToken{Fingerprint: t.Fingerprint, Expires: t.Expires})
	}
	for _, t := range f.Retired {
		held.Retired = append(held.Retired, plan.Retired{Fingerprint: t.Fingerprint, Expires: t.Expires, RevokeAt: t.RevokeAt})
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
	return r.viewOf(grant, meta.ObjectMeta), nil
}

// liveSecret reads the Secret from the API server. That it cannot be read is a fact of its own, not an error.
func (r *GrantReconciler) liveSecret(ctx context.Context, grant *v1alpha1.MqttTokenGrant) secretView {
	secret := &corev1.Secret{}
	switch err := r.Live.Get(ctx, secretKey(grant), secret); {
	case apierrors.IsNotFound(err):
		return secretView{state: plan.SecretMissing}
	case err != nil:
		return secretView{state: plan.SecretUnreadable, err: fmt.Errorf("reading Secret %s: %w", secretKey(grant), err)}
	}
	view := r.viewOf(grant, secret.ObjectMeta)
	if secret.Type != credsecret.Type {
		view.state = plan.SecretForeign
	}
	if view.state != plan.SecretOurs {
		return view
	}
	record, err := credsecret.ReadRecord(secret)
	if err != nil || !record.Matches(view.facts, string(grant.UID)) {
		view.damaged = true
	}
	view.record = record.Known(view.facts, string(grant.UID))
	return view
}

func (r *GrantReconciler) viewOf(grant *v1alpha1.MqttTokenGrant, meta metav1.ObjectMeta) secretView {
	view := secretView{state: plan.SecretOurs, meta: meta}
	if !r.isOurs(grant, meta) {
		view.state = plan.SecretForeign
		return view
	}
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

// isTouched reports whether somebody else wrote, or removed, what is ours. The API server keeps that record in
// managedFields, so no payload is needed. With a layout, missing keys are noticed too.
func (v secretView) isTouched(layout *credsecret.Layout) bool {
	if v.state != plan.SecretOurs {
		return false
	}
	if metav1.GetControllerOfNoCopy(&v.meta) == nil {
		return true
	}
	ours, others := fieldpath.NewSet(), fieldpath.NewSet()
	for _, entry := range v.meta.ManagedFields {
		fields := &fieldpath.Set{}
		if entry.FieldsV1 == nil || fields.FromJSON(entry.FieldsV1.GetRawReader()) != nil {
			return true
		}
		if strings.HasPrefix(entry.Manager, fieldManagerPrefix) && entry.Operation == metav1.ManagedFieldsOperationApply {
			ours = ours.Union(fields)
		} else {
			others = others.Union(fields)
		}
	}
	if !ours.Leaves().Intersection(others.Leaves()).Empty() {
		return true
	}
	return layout != nil && layout.ID() == v.facts.Rendering && !holdsKeys(ours, *layout)
}

func holdsKeys(ours *fieldpath.Set, layout credsecret.Layout) bool {
	keys, err := layout.Keys()
	if err != nil {
		return true // the template is at fault, and a rewrite says so
	}
	for key := range keys {
		if !ours.Has(fieldpath.MakePathOrDie("data", key)) {
			return false
		}
	}
	for _, annotation := range []string{credsecret.FactsAnnotation, credsecret.GrantUIDAnnotation, credsecret.ClusterIDAnnotation} {
		if !ours.Has(fieldpath.MakePathOrDie("metadata", "annotations", annotation)) {
			return false
		}
	}
	return ours.Has(fieldpath.MakePathOrDie("metadata", "labels", credsecret.GrantLabel))
}

const fieldManagerPrefix = "mqtt-token-grant-"

// writeSecret writes everything in one server-side apply, so that no reader sees half of it. A first write is not
// forced: it fails on a Secret that appeared meanwhile. Later ones name the version they replace, so that a writer that
// decided on old knowledge fails instead of overwriting.
func (r *GrantReconciler) writeSecret(ctx context.Context, seen observation, rendered *corev1.Secret) (secretView, error) {
	facts, err := credsecret.ReadFacts(&rendered.ObjectMeta)
	if err != nil {
		return secretView{}, err
	}
	apply := corev1ac.Secret(rendered.Name, rendered.Namespace).WithType(rendered.Type).
		WithLabels(rendered.Labels).WithAnnotations(rendered.Annotations).WithData(rendered.Data).
		WithOwnerReferences(metav1ac.OwnerReference().WithAPIVersion(v1alpha1.GroupVersion().String()).WithKind("MqttTokenGrant").
			WithName(seen.grant.Name).WithUID(seen.grant.UID).WithController(true).WithBlockOwnerDeletion(true))
	options := []client.ApplyOption{client.FieldOwner(fieldManagerPrefix + string(seen.grant.UID))}
	if seen.secret.state == plan.SecretOurs {
		apply = apply.WithUID(seen.secret.meta.UID).WithResourceVersion(seen.secret.meta.ResourceVersion)
		options = append(options, client.ForceOwnership)
	}
	if err := r.Apply(ctx, apply, options...); err != nil {
		return secretView{}, fmt.Errorf("writing Secret %s: %w", secretKey(seen.grant), err)
	}
	written := secretView{state: plan.SecretOurs, meta: rendered.ObjectMeta, facts: facts}
	written.meta.ResourceVersion = ptr.Deref(apply.ResourceVersion, "")
	r.recent.note(seen.grant, func(g *recentGrant) {
		g.unsaved, g.secretVersion = nil, written.meta.ResourceVersion
	})
	return written, nil
}

func secretKey(grant *v1alpha1.MqttTokenGrant) types.NamespacedName {
	return types.NamespacedName{Namespace: grant.Namespace, Name: desired.SecretName(grant)}
}

func secretKind() schema.GroupVersionKind { return corev1.SchemeGroupVersion.WithKind("Secret") }

// NamespaceKind is the kind of which the manager reads metadata only.
func NamespaceKind() schema.GroupVersionKind { return corev1.SchemeGroupVersion.WithKind("Namespace") }
