package main

import (
	"context"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/mqtt-token-operator/mqtt-token-operator/pkg/mqttcred"
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
	}
}

// damage changes a token Secret behind the operator's back. Tokens whose only record goes with it are excused.
func (w *world) damage(how func(*corev1.Secret, fault) string) inject {
	return func(ctx context.Context, f fault) (string, error) {
		key, what := f.target(0), ""
		err := w.insist(ctx, "damaging Secret "+key.String(), func() error {
			var secret corev1.Secret
			if err := w.api.Get(ctx, key, &secret); err != nil {
				return err
			}
			before := w.tokensIn(&secret)
			what = how(&secret, f)
			after := w.tokensIn(&secret)
			w.expectDamage(key, slices.DeleteFunc(before, func(id string) bool { return slices.Contains(after, id) }))
			if err := w.api.Update(ctx, &secret); err != nil {
				return err
			}
			w.damagedAs(key, secret.ResourceVersion)
			return nil
		})
		return fmt.Sprintf("%s lost %s", key, what), err
	}
}

func (w *world) expectDamage(key types.NamespacedName, lost []string) {
	w.excuse(key)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.standing[key].damage.begin()
	w.book.excuse(lost...)
}

func (w *world) damagedAs(key types.NamespacedName, version string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.standing[key].damage.done(version)
}

func (w *world) deleteSecret(ctx context.Context, f fault) (string, error) {
	key := f.target(0)
	w.excuse(key)
	secret := &corev1.Secret{}
	secret.Namespace, secret.Name = key.Namespace, key.Name
	err := w.insist(ctx, "deleting Secret "+key.String(), func() error { return w.api.Delete(ctx, secret) })
	return key.String(), err
}
