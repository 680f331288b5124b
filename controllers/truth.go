package controllers

import (
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/mqtt-token-operator/mqtt-token-operator/api/v1alpha1"
)

const (
	// verdictLasts is how long an answer about a token says something about the others.
	verdictLasts = 24 * time.Hour
	// maxVerdicts bounds what is kept of them; the latest count.
	maxVerdicts = 64
	// fewInvalid is how many tokens may be called invalid before it matters how many are valid.
	fewInvalid = 3
)

// verdicts are the service's latest answers about an instance's tokens.
type verdicts []verdict

type verdict struct {
	valid bool
	at    time.Time
}

func (v verdicts) with(valid bool, now time.Time) verdicts {
	kept := append(v.since(now.Add(-verdictLasts)), verdict{valid, now})
	return kept[max(0, len(kept)-maxVerdicts):]
}

func (v verdicts) since(moment time.Time) verdicts {
	var kept verdicts
	for _, old := range v {
		if old.at.After(moment) {
			kept = append(kept, old)
		}
	}
	return kept
}

// areCredible reports whether tokens that are called invalid may be replaced for it. One that somebody revoked is; a
// fleet that is invalid all at once says more about the service, or the instance, than about its tokens.
func (v verdicts) areCredible(now time.Time) bool {
	valid, invalid := 0, 0
	for _, each := range v.since(now.Add(-verdictLasts)) {
		if each.valid {
			valid++
		} else {
			invalid++
		}
	}
	return invalid < fewInvalid || valid >= invalid
}

// noteVerdict notes what the service says of one of the instance's tokens.
func (c *Connections) noteVerdict(instance types.NamespacedName, valid bool, now time.Time) {
	c.mu.Lock()
	before := c.truth[instance].areCredible(now)
	c.truth[instance] = c.truth[instance].with(valid, now)
	changed := before != c.truth[instance].areCredible(now)
	c.mu.Unlock()
	if changed {
		c.wakeInstance.send(instance)
	}
}

// mayReissueInvalid reports whether tokens that the service calls invalid are to be replaced: their number is credible,
// or somebody who looked into it said so.
func (c *Connections) mayReissueInvalid(instance *v1alpha1.MqttInstance, now time.Time) bool {
	return confirmed(instance, v1alpha1.ConfirmReissueAnnotation) || c.isCredible(types.NamespacedName{Namespace: instance.Namespace, Name: instance.Name}, now)
}

func (c *Connections) isCredible(instance types.NamespacedName, now time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.truth[instance].areCredible(now)
}
