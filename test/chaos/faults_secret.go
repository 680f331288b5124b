package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"

	"github.com/mqtt-token-operator/mqtt-token-operator/internal/credsecret"
	"github.com/mqtt-token-operator/mqtt-token-operator/pkg/mqttcred"
	"github.com/mqtt-token-operator/mqtt-token-operator/test/cluster"
)

func (w *world) secretFaults() map[kind]inject {
	return map[kind]inject{
		editPassword: w.damage(func(s *corev1.Secret, _ fault) string {
			for _, key := range []string{mqttcred.KeyPassword, mqttcred.EnvPassword} {
				if _, has := s.Data[key]; has {
					s.Data[key] = []byte("W|nonsense")
				}
			}
			return "its password"
		}),
		dropKey: w.damage(func(s *corev1.Secret, f fault) string {
			var keys []string
			for key := range s.Data {
				keys = append(keys, key)
			}
			slices.Sort(keys)
			if len(keys) == 0 {
				return "nothing"
			}
			key := keys[f.among(1, len(keys))]
			delete(s.Data, key)
			return "its key " + key
		}),
		dropLabels:      w.damage(func(s *corev1.Secret, _ fault) string { s.Labels = nil; return "its labels" }),
		dropAnnotations: w.damage(func(s *corev1.Secret, _ fault) string { s.Annotations = nil; return "its annotations" }),
		dropOwner:       w.damage(func(s *corev1.Secret, _ fault) string { s.OwnerReferences = nil; return "its owner" }),
		dropFinalizer:   w.damage(func(s *corev1.Secret, _ fault) string { s.Finalizers = nil; return "its finalizer" }),
		deleteSecret:    w.deleteSecret,
		immutable:       w.immutable, stripHold: w.stripHold, stripDelete: w.stripDelete,
	}
}

// damage changes a token Secret behind the operator's back. Tokens whose only record goes with it are excused.
func (w *world) damage(how func(*corev1.Secret, fault) string) inject {
	return func(ctx context.Context, f fault) (string, error) {
		key := f.target(0)
		what, err := w.damageOf(ctx, key, func(s *corev1.Secret) string { return how(s, f) })
		return fmt.Sprintf("%s lost %s", key, what), err
	}
}

func (w *world) damageOf(ctx context.Context, key types.NamespacedName, how func(*corev1.Secret) string) (what string, err error) {
	var secret corev1.Secret
	sent := false
	w.expectDamage(key)
	err = w.insist(ctx, "damaging Secret "+key.String(), func() error {
		if err := w.api.Get(ctx, key, &secret); err != nil {
			return err
		}
		before := w.tokensIn(&secret)
		what = how(&secret)
		after := w.tokensIn(&secret)
		w.mu.Lock()
		w.book.excuse(slices.DeleteFunc(before, func(id string) bool { return slices.Contains(after, id) })...)
		w.mu.Unlock()
		sent = true
		return w.api.Update(ctx, &secret)
	})
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case err == nil:
		w.damagesOf(key).known(secret.ResourceVersion)
	case !sent, isRefused(err):
		w.damagesOf(key).withdrawn()
	default: // it may have been taken, or will be: no version can be told from it
	}
	return what, err
}

// isRefused reports whether the API server has surely not taken a write.
func isRefused(err error) bool {
	return apierrors.IsInvalid(err) || apierrors.IsConflict(err) || apierrors.IsForbidden(err) || apierrors.IsNotFound(err)
}

func (w *world) expectDamage(key types.NamespacedName) {
	w.excuse(key)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.damagesOf(key).expect()
}

// damagesOf is what we did to a Secret. The caller holds the lock.
func (w *world) damagesOf(key types.NamespacedName) *damages {
	if w.damages[key] == nil {
		w.damages[key] = &damages{}
	}
	return w.damages[key]
}

func (w *world) deleteSecret(ctx context.Context, f fault) (string, error) {
	key := f.target(0)
	w.excuse(key)
	secret := &corev1.Secret{}
	secret.Namespace, secret.Name = key.Namespace, key.Name
	err := w.insist(ctx, "deleting Secret "+key.String(), func() error { return w.api.Delete(ctx, secret) })
	return key.String(), err
}

// immutable keeps the manager from taking tokens out of a Secret that it must revoke. What ends that is to delete the Secret.
func (w *world) immutable(ctx context.Context, f fault) (string, error) {
	key := f.target(0)
	err := w.insist(ctx, "making Secret "+key.String()+" immutable", func() error {
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
	took, err := w.cutOff(ctx, key, f.between(1, time.Second, 8*time.Second))
	_, gone := w.deleteSecret(ctx, f)
	return fmt.Sprintf("%s, its tokens dead after %s", key, took.Round(100*time.Millisecond)), errors.Join(err, gone)
}

// cutOff holds a grant until its tokens are dead, and for a while after.
func (w *world) cutOff(ctx context.Context, key types.NamespacedName, lasts time.Duration) (time.Duration, error) {
	began := time.Now()
	ids, err := w.putOnHold(ctx, key)
	if err != nil {
		return 0, err
	}
	err = errors.Join(w.awaitDead(ctx, ids), w.awaitHeld(ctx, key))
	took := time.Since(began)
	wait(lasts)
	return took, errors.Join(err, w.letBack(ctx, key))
}

// awaitDead waits until tokens are dead; whether that was in time is judged elsewhere.
func (w *world) awaitDead(ctx context.Context, ids map[string]bool) error {
	return cluster.Eventually(ctx, goneWithin, func() (string, error) {
		for _, id := range w.alive() {
			w.mu.Lock()
			counts := ids[id] && !w.book.isLost(id)
			w.mu.Unlock()
			if counts {
				return "token " + id + " is alive", nil
			}
		}
		return "", nil
	})
}

// stripHold takes from a Secret what says of which client and instance its tokens are, and holds the grant.
func (w *world) stripHold(ctx context.Context, f fault) (string, error) {
	if err := w.strip(ctx, f.target(0)); err != nil {
		return "", err
	}
	return w.hold(ctx, f)
}

// stripDelete does the same, and deletes the grant.
func (w *world) stripDelete(ctx context.Context, f fault) (string, error) {
	if err := w.strip(ctx, f.target(0)); err != nil {
		return "", err
	}
	return w.deleteDoomed(ctx, f.target(0), "deleted without facts")
}

func (w *world) strip(ctx context.Context, key types.NamespacedName) error {
	_, err := w.damageOf(ctx, key, func(s *corev1.Secret) string {
		delete(s.Annotations, credsecret.FactsAnnotation)
		return "its facts"
	})
	return err
}
