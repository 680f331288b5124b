package controllers

import (
	"errors"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/mqtt-token-operator/mqtt-token-operator/internal/budget"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/plan"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/token"
)

// link is a checked connection to one instance, as the grants use it.
type link struct {
	service token.Service
	budget  *budget.Budget
	// instanceID is the instance that the service speaks for.
	instanceID string
	// keyID is the AccessKey id that clients carry in their username.
	keyID string
	// version identifies the description that the link was made from.
	version string
}

// health says whether calls over a link work. The zero value says that nobody knows yet.
type health struct {
	checked bool
	fault   *token.Error // nil: no fault
	// failures counts faults since the last success of the operation that failed.
	failures int
	// retryAt is when a check may be made again.
	retryAt time.Time
}

func (h health) usable() bool { return h.checked && h.fault == nil }

// Connections holds the link to each instance, made by the instance reconciler and used by the grant reconciler. A link
// outlives its MqttInstance, so that what must be revoked can be. It is safe for concurrent use.
type Connections struct {
	mu      sync.Mutex
	entries map[types.NamespacedName]*entry

	// wakeInstance and wakeGrants reach the queues of the two controllers.
	wakeInstance signal
	wakeGrants   signal
}

type entry struct {
	link   *link
	health health
}

// NewConnections returns an empty registry.
func NewConnections() *Connections {
	return &Connections{entries: map[types.NamespacedName]*entry{}}
}

// usable returns the link to an instance, or nil while there is none that works.
func (c *Connections) usable(instance types.NamespacedName) *link {
	l, h := c.get(instance)
	if !h.usable() {
		return nil
	}
	return l
}

// lastGood returns a link for revoking: it may outlive its instance and its credential Secret, as long as the service
// itself has not refused it.
func (c *Connections) lastGood(instance types.NamespacedName) *link {
	l, h := c.get(instance)
	if h.fault != nil {
		return nil
	}
	return l
}

func (c *Connections) get(instance types.NamespacedName) (*link, health) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e, found := c.entries[instance]; found {
		return e.link, e.health
	}
	return nil, health{}
}

// knows reports whether the instance reconciler has looked at the instance since this process started.
func (c *Connections) knows(instance types.NamespacedName) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, found := c.entries[instance]
	return found
}

// set stores what the instance reconciler found and wakes the grants when they can go on, or learn for the first time
// that they cannot.
func (c *Connections) set(instance types.NamespacedName, l *link, h health) {
	c.mu.Lock()
	before, found := c.entries[instance]
	wake := !found || h.usable() && (!before.health.usable() || before.link != l)
	c.entries[instance] = &entry{link: l, health: h}
	c.mu.Unlock()
	if wake {
		c.wakeGrants.send(instance)
	}
}

// report notes how a grant's call over the link went. A fault of the instance takes the link out of use for everybody
// at once; the instance reconciler checks it, at once the first time, later and later while the calls go on failing.
func (c *Connections) report(instance types.NamespacedName, l *link, err error, now time.Time) {
	var fault *token.Error
	broken := errors.As(err, &fault) && fault.Kind == token.KindInstance
	c.mu.Lock()
	e, found := c.entries[instance]
	if !found || e.link != l || (!broken && err != nil) || (broken && e.health.fault != nil) {
		c.mu.Unlock()
		return
	}
	if !broken {
		e.health.failures = 0
		c.mu.Unlock()
		return
	}
	e.health.fault = fault
	e.health.retryAt = now
	if e.health.failures > 0 {
		e.health.retryAt = now.Add(plan.Backoff(e.health.failures, instance.String()))
	}
	e.health.failures++
	c.mu.Unlock()
	c.wakeInstance.send(instance)
}
