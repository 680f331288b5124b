package main

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/mqtt-token-operator/mqtt-token-operator/api/v1alpha1"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/credsecret"
)

// What must go goes, whatever stands in the way of the usual one.
func (w *world) corneredFaults() map[kind]inject {
	return map[kind]inject{
		freezeSecret: w.freezeSecret, stripDelete: w.stripDelete, stripHold: w.stripHold, lostInstance: w.lostInstance,
	}
}

// freezeSecret makes a token Secret one that nobody can write, and cuts its client off.
func (w *world) freezeSecret(ctx context.Context, f fault) (string, error) {
	key := f.target(0)
	w.excuse(key)
	err := w.insist(ctx, "freezing Secret "+key.String(), func() error {
		var secret corev1.Secret
		if err := w.api.Get(ctx, key, &secret); err != nil {
			return err
		}
		secret.Immutable = new(true)
		return w.api.Update(ctx, &secret)
	})
	if err != nil {
		return "", err
	}
	line, err := w.hold(ctx, f)
	if err != nil {
		return "", err
	}
	if _, err := w.deleteSecret(ctx, f); err != nil { // the one way out
		return "", err
	}
	return line, nil
}

// strip takes the facts off a Secret, so that only its payload tells what it holds.
func (w *world) strip(ctx context.Context, f fault) error {
	_, err := w.damage(func(s *corev1.Secret, _ fault) string {
		delete(s.Annotations, credsecret.FactsAnnotation)
		return "its facts"
	})(ctx, f)
	return err
}

func (w *world) stripHold(ctx context.Context, f fault) (string, error) {
	if err := w.strip(ctx, f); err != nil {
		return "", err
	}
	return w.hold(ctx, f)
}

func (w *world) stripDelete(ctx context.Context, f fault) (string, error) {
	key := f.target(0)
	before := w.aliveOf(key)
	if err := w.strip(ctx, f); err != nil {
		return "", err
	}
	return w.deleteAndExpectDead(ctx, key, before, "stripped and deleted")
}

// lostInstance moves a grant to an instance that does not exist, and deletes it.
func (w *world) lostInstance(ctx context.Context, f fault) (string, error) {
	key := f.target(0)
	w.excuse(key)
	before := w.aliveOf(key)
	if _, err := w.edit(ctx, key, func(g *v1alpha1.MqttTokenGrant) { g.Spec.InstanceRef.Name = "nowhere" }); err != nil {
		return "", err
	}
	return w.deleteAndExpectDead(ctx, key, before, "moved to nowhere and deleted")
}

func (w *world) deleteAndExpectDead(ctx context.Context, key types.NamespacedName, tokens map[string]bool, why string) (string, error) {
	line, err := w.deleteGrants(ctx, []types.NamespacedName{key})
	if err == nil {
		w.mustDie(&doom{grant: key.String(), why: why, ids: tokens})
	}
	return line, err
}
