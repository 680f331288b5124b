package main

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/mqtt-token-operator/mqtt-token-operator/api/v1alpha1"
	"github.com/mqtt-token-operator/mqtt-token-operator/test/cluster"
)

const (
	many = 20
	// goneWithin is how long we wait for a deletion before we go on; whether it was in time is judged elsewhere.
	goneWithin = 3 * time.Minute
	// doomedNamespace holds no grant of a connected client.
	doomedNamespace = "line-c"
)

func (w *world) deleteFaults() map[kind]inject {
	return map[kind]inject{
		deleteGrant: w.deleteGrant, deleteMany: w.deleteMany, deleteNamespace: w.deleteNamespace, deleteInstance: w.deleteInstance,
		lostInstance: w.lostInstance,
	}
}

// awaitGone waits until an object is gone.
func (w *world) awaitGone(ctx context.Context, object client.Object) error {
	key := client.ObjectKeyFromObject(object)
	return cluster.Eventually(ctx, goneWithin, func() (string, error) {
		err := w.api.Get(ctx, key, object)
		if apierrors.IsNotFound(err) {
			return "", nil
		}
		return fmt.Sprintf("%s is there", key), nil
	})
}

func (w *world) remove(ctx context.Context, object client.Object) error {
	return w.insist(ctx, "deleting "+object.GetName(), func() error {
		return client.IgnoreNotFound(w.api.Delete(ctx, object))
	})
}

func (w *world) deleteGrant(ctx context.Context, f fault) (string, error) {
	return w.deleteGrants(ctx, []types.NamespacedName{f.target(0)})
}

// deleteDoomed deletes a grant whose tokens must be dead soon, whatever was done to it before.
func (w *world) deleteDoomed(ctx context.Context, key types.NamespacedName, why string) (string, error) {
	if err := w.remove(ctx, bareGrant(key)); err != nil {
		return "", err
	}
	w.mustDie(&doom{grant: key, why: why, ids: w.aliveOf(key)})
	return w.deleteGrants(ctx, []types.NamespacedName{key})
}

// lostInstance moves a grant to an instance that does not exist, and deletes it.
func (w *world) lostInstance(ctx context.Context, f fault) (string, error) {
	key := f.target(0)
	w.excuse(key)
	_, err := w.edit(ctx, key, func(g *v1alpha1.MqttTokenGrant) { g.Spec.InstanceRef.Name = "nowhere" })
	if err != nil {
		return "", err
	}
	wait(f.between(1, 0, 3*time.Second))
	return w.deleteDoomed(ctx, key, "deleted without an instance")
}

func (w *world) deleteMany(ctx context.Context, f fault) (string, error) {
	all, first := targets(), f.among(0, len(targets()))
	var keys []types.NamespacedName
	for i := range many {
		keys = append(keys, all[(first+i)%len(all)])
	}
	return w.deleteGrants(ctx, keys)
}

// deleteGrants deletes grants, waits until they are gone and creates them again.
func (w *world) deleteGrants(ctx context.Context, keys []types.NamespacedName) (string, error) {
	began := time.Now()
	for _, key := range keys {
		if err := w.remove(ctx, bareGrant(key)); err != nil {
			return "", err
		}
	}
	for _, key := range keys {
		if err := w.awaitGone(ctx, bareGrant(key)); err != nil {
			return "", err
		}
	}
	took := time.Since(began)
	for _, key := range keys {
		if err := w.createGrant(ctx, key, number(key)); err != nil {
			return "", err
		}
	}
	return fmt.Sprintf("%s, gone after %s", names(keys), took.Round(100*time.Millisecond)), nil
}

func bareGrant(key types.NamespacedName) *v1alpha1.MqttTokenGrant {
	grant := &v1alpha1.MqttTokenGrant{}
	grant.Namespace, grant.Name = key.Namespace, key.Name
	return grant
}

func (w *world) deleteNamespace(ctx context.Context, _ fault) (string, error) {
	began := time.Now()
	namespace := &corev1.Namespace{}
	namespace.Name = doomedNamespace
	if err := w.remove(ctx, namespace); err != nil {
		return "", err
	}
	if err := w.awaitGone(ctx, namespace); err != nil {
		return "", err
	}
	took := time.Since(began)
	if err := w.create(ctx, newNamespace(doomedNamespace)); err != nil {
		return "", err
	}
	for n, key := range grantKeys() {
		if key.Namespace == doomedNamespace {
			if err := w.createGrant(ctx, key, n); err != nil {
				return "", err
			}
		}
	}
	return fmt.Sprintf("%s, gone after %s", doomedNamespace, took.Round(100*time.Millisecond)), nil
}

// deleteInstance deletes an instance before its grants. They keep their tokens until it is there again.
func (w *world) deleteInstance(ctx context.Context, f fault) (string, error) {
	name := instanceNames()[f.among(0, len(instanceNames()))]
	instance := &v1alpha1.MqttInstance{}
	instance.Namespace, instance.Name = platform, name
	began := time.Now()
	w.trouble("instance", true)
	defer w.trouble("instance", false)
	if err := w.remove(ctx, instance); err != nil {
		return "", err
	}
	if err := w.awaitGone(ctx, instance); err != nil {
		return "", err
	}
	took := time.Since(began)
	wait(f.between(1, time.Second, 5*time.Second))
	if err := w.createInstance(ctx, name); err != nil {
		return "", err
	}
	return fmt.Sprintf("%s, gone after %s", name, took.Round(100*time.Millisecond)), nil
}
