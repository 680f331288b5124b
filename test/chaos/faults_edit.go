package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	apimeta "k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/types"

	"github.com/mqtt-token-operator/mqtt-token-operator/api/v1alpha1"
	"github.com/mqtt-token-operator/mqtt-token-operator/test/cluster"
)

func (w *world) editFaults() map[kind]inject {
	return map[kind]inject{
		widen: w.widen, narrow: w.narrow, moveClient: w.moveClient, moveInstance: w.moveInstance, hold: w.hold, reissue: w.reissue,
	}
}

// edit changes a grant, and makes another attempt when somebody else wrote it meanwhile.
func (w *world) edit(ctx context.Context, key types.NamespacedName, change func(*v1alpha1.MqttTokenGrant)) (*v1alpha1.MqttTokenGrant, error) {
	var grant v1alpha1.MqttTokenGrant
	err := w.insist(ctx, "editing "+key.String(), func() error {
		if err := w.api.Get(ctx, key, &grant); err != nil {
			return err
		}
		change(&grant)
		return w.api.Update(ctx, &grant)
	})
	return &grant, err
}

// extra names a topic that no edit before named.
func (w *world) extra(key types.NamespacedName) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.extras++
	return fmt.Sprintf("%sextra-%d", prefix(key), w.extras)
}

func (w *world) widen(ctx context.Context, f fault) (string, error) {
	key := f.target(0)
	topic := w.extra(key)
	_, err := w.edit(ctx, key, func(g *v1alpha1.MqttTokenGrant) {
		g.Spec.Topics = append(g.Spec.Topics, v1alpha1.TopicPermission{Filter: topic, Actions: []v1alpha1.Action{v1alpha1.ActionPublish}})
	})
	return topic, err
}

// narrow gives a few grants a topic, and takes it away when they have tokens for it.
func (w *world) narrow(ctx context.Context, f fault) (string, error) {
	var taken []string
	for i := range 3 {
		g := f
		g.dice[0] += uint32(i)
		topic, err := w.widen(ctx, g)
		if err != nil {
			return "", err
		}
		taken = append(taken, topic)
	}
	wait(f.between(1, time.Second, 6*time.Second))
	for i, topic := range taken {
		g := f
		g.dice[0] += uint32(i)
		key := g.target(0)
		grant, err := w.edit(ctx, key, func(g *v1alpha1.MqttTokenGrant) {
			g.Spec.Topics = slices.DeleteFunc(g.Spec.Topics, func(t v1alpha1.TopicPermission) bool { return t.Filter == topic })
		})
		if err != nil {
			return "", err
		}
		w.mustDie(&doom{grant: key, why: "narrowed", carries: topic, overlap: overlapOf(grant)})
	}
	return fmt.Sprint(taken), nil
}

func overlapOf(grant *v1alpha1.MqttTokenGrant) time.Duration {
	d, err := time.ParseDuration(grant.Spec.Overlap)
	if err != nil {
		return 0
	}
	return d
}

// mustDie starts the clock for tokens that must go.
func (w *world) mustDie(d *doom) {
	w.mu.Lock()
	defer w.mu.Unlock()
	d.from = w.up
	w.dooms = append(w.dooms, d)
}

// moveClient gives the client another device id: what was issued for the old one must go.
func (w *world) moveClient(ctx context.Context, f fault) (string, error) {
	key := f.target(0)
	return w.move(ctx, key, "moved to another client id", func(g *v1alpha1.MqttTokenGrant) {
		g.Spec.Client.DeviceID = fmt.Sprintf("%s-%s-%d", key.Namespace, key.Name, f.among(1, 1000))
	})
}

func (w *world) moveInstance(ctx context.Context, f fault) (string, error) {
	return w.move(ctx, f.target(0), "moved to another instance", func(g *v1alpha1.MqttTokenGrant) {
		if g.Spec.InstanceRef.Name == firstInstance {
			g.Spec.InstanceRef.Name = secondInstance
		} else {
			g.Spec.InstanceRef.Name = firstInstance
		}
	})
}

func (w *world) move(ctx context.Context, key types.NamespacedName, why string, change func(*v1alpha1.MqttTokenGrant)) (string, error) {
	before := w.aliveOf(key)
	grant, err := w.edit(ctx, key, change)
	if err != nil {
		return "", err
	}
	w.mustDie(&doom{grant: key, why: why, ids: before, overlap: overlapOf(grant)})
	return key.String(), nil
}

// hold cuts a client off for a while: every token must go, and none may come.
func (w *world) hold(ctx context.Context, f fault) (string, error) {
	key := f.target(0)
	if _, err := w.putOnHold(ctx, key); err != nil {
		return "", err
	}
	wait(f.between(1, 2*time.Second, 15*time.Second))
	if err := w.awaitHeld(ctx, key); err != nil {
		return "", err
	}
	return key.String(), w.letBack(ctx, key)
}

// putOnHold returns the tokens that must go.
func (w *world) putOnHold(ctx context.Context, key types.NamespacedName) (map[string]bool, error) {
	w.excuse(key)
	_, err := w.edit(ctx, key, func(g *v1alpha1.MqttTokenGrant) { annotate(g, v1alpha1.HoldAnnotation, "chaos") })
	if err != nil {
		return nil, err
	}
	ids := w.aliveOf(key)
	w.mustDie(&doom{grant: key, why: "held", ids: ids})
	return ids, nil
}

func (w *world) letBack(ctx context.Context, key types.NamespacedName) error {
	_, err := w.edit(ctx, key, func(g *v1alpha1.MqttTokenGrant) { delete(g.Annotations, v1alpha1.HoldAnnotation) })
	w.excuse(key)
	return err
}

// awaitHeld waits for a manager to see the hold: one that is lifted before there is a leader asks for nothing.
func (w *world) awaitHeld(ctx context.Context, key types.NamespacedName) error {
	return w.awaitCondition(ctx, key, v1alpha1.HeldCondition, heldWithin)
}

// awaitCondition waits until a condition of a grant is true.
func (w *world) awaitCondition(ctx context.Context, key types.NamespacedName, condition string, within time.Duration) error {
	return cluster.Eventually(ctx, within, func() (string, error) {
		var grant v1alpha1.MqttTokenGrant
		if err := w.api.Get(ctx, key, &grant); err != nil {
			return err.Error(), nil //nolint:nilerr // the API server may be away
		}
		if !apimeta.IsStatusConditionTrue(grant.Status.Conditions, condition) {
			return key.String() + " is not " + condition, nil
		}
		return "", nil
	})
}

const heldWithin = 2 * time.Minute

// reissue asks for new tokens and has the old ones revoked at once.
func (w *world) reissue(ctx context.Context, f fault) (string, error) {
	return w.reissueWithin(ctx, f, 0)
}

// reissueWithin is reissue where the new tokens may take a while to come: the old ones go after them.
func (w *world) reissueWithin(ctx context.Context, f fault, patience time.Duration) (string, error) {
	key := f.target(0)
	before := w.aliveOf(key)
	_, err := w.edit(ctx, key, func(g *v1alpha1.MqttTokenGrant) {
		annotate(g, v1alpha1.ReissueAnnotation, fmt.Sprint(time.Now().UnixNano()))
		annotate(g, v1alpha1.ReissuePolicyAnnotation, v1alpha1.ReissuePolicyRevoke)
	})
	if err != nil {
		return "", err
	}
	w.mustDie(&doom{grant: key, why: "reissued", ids: before, overlap: patience})
	return key.String(), nil
}

func annotate(g *v1alpha1.MqttTokenGrant, name, value string) {
	if g.Annotations == nil {
		g.Annotations = map[string]string{}
	}
	g.Annotations[name] = value
}
