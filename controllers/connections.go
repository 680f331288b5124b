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

// Operations, as token.Error names them.
const (
	opApply  = "Apply"
	opQuery  = "Query"
	opRevoke = "Revoke"
)

// trialTime is how long an operation that failed is waited for, once the check has passed, before its fault counts as
// gone.
const trialTime = plan.MaxBackoff

// health says whether calls over a link work. The zero value says that nobody knows yet.
type health struct {
	checked bool
	fault   *token.Error // the link is out of use because of it; nil: in use
	// suspect is a fault of an operation that the check does not make. The link is in use again, on trial, and the fault
	// is told until a call of that operation succeeds or the trial is over.
	suspect *token.Error
	// failures counts faults since the operation that failed has last succeeded.
	failures int
	// retryAt is when a check may be made again, or when a trial is over.
	retryAt time.Time
}

func (h health) usable() bool { return h.checked && h.fault == nil }

// mayIssue reports whether tokens can be had: a key that may not revoke may still apply.
func (h health) mayIssue() bool { return h.usable() || h.checked && h.fault.Op == opRevoke }

// passed is the health after a check that passed.
func (h health) passed(now time.Time) health {
	after := health{checked: true}
	if h.fault != nil && h.fault.Op != opQuery {
		after.suspect, after.failures, after.retryAt = h.fault, h.failures, now.Add(trialTime)
	}
	return after
}

// failed is the health after one more fault. The first one is checked at once, later ones after a backoff.
func (h health) failed(fault *token.Error, at time.Time) health {
	return health{checked: true, fault: fault, failures: h.failures + 1, retryAt: at}
}

// Connections holds the link to each instance, made by the instance reconciler and used by the grant reconciler. A link
// outlives its MqttInstance, so that what must be revoked can be. It is safe for concurrent use.
type Connections struct {
	mu      sync.Mutex
	entries map[types.NamespacedName]*entry

	// wakeInstance, wakeGrants and wakeLedger reach the queues of the three controllers.
	wakeInstance signal
	wakeGrants   signal
	wakeLedger   signal
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
	if !h.mayIssue() {
		return nil
	}
	return l
}

// lastGood returns a link for revoking: it may outlive its instance and its credential Secret, as long as the service
// has refused nothing but to issue.
func (c *Connections) lastGood(instance types.NamespacedName) *link {
	l, h := c.get(instance)
	if h.fault != nil && h.fault.Op != opApply {
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

// touch makes an instance known that could not be looked at, so that its grants report instead of waiting.
func (c *Connections) touch(instance types.NamespacedName) {
	l, h := c.get(instance)
	c.set(instance, l, h)
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
		c.wakeLedger.send(instance)
	}
}

// report notes how a grant's call over the link went. A fault of the instance takes the link out of use for everybody
// at once; the instance reconciler checks it, at once the first time, later and later while the calls go on failing.
func (c *Connections) report(instance types.NamespacedName, l *link, operation string, err error, now time.Time) {
	if c.note(instance, l, operation, err, now) {
		c.wakeInstance.send(instance)
	}
}

func (c *Connections) note(instance types.NamespacedName, l *link, operation string, err error, now time.Time) (changed bool) {
	fault, failed := errors.AsType[*token.Error](err)
	c.mu.Lock()
	defer c.mu.Unlock()
	e, found := c.entries[instance]
	if !found || e.link != l || e.health.fault != nil {
		return false
	}
	switch {
	case failed && fault.Kind == token.KindInstance:
		at := now
		if e.health.failures > 0 {
			at = now.Add(plan.Backoff(e.health.failures, instance.String()))
		}
		e.health = e.health.failed(fault, at)
		return true
	case err == nil && e.health.suspect != nil && e.health.suspect.Op == operation:
		e.health = health{checked: true}
		return true
	}
	return false
}
