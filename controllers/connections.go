package controllers

import (
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/mqtt-token-operator/mqtt-token-operator/internal/budget"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/skew"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/token"
)

// link is a checked connection to one instance, as the grants use it.
type link struct {
	service token.Service
	// budget is the account's, shared with the links to its other instances.
	budget *budget.Budget
	// account identifies it.
	account string
	// instanceID is the instance that the service speaks for.
	instanceID string
	// keyID is the AccessKey id that clients carry in their username.
	keyID string
	// version identifies the description that the link was made from.
	version string
}

// Connections holds the link to each instance, made by the instance reconciler and used by the others. A link outlives its
// MqttInstance, so that what must be revoked can be. It is safe for concurrent use.
type Connections struct {
	accounts *budget.Accounts

	mu      sync.Mutex
	entries map[types.NamespacedName]*entry
	clocks  map[types.NamespacedName]*skew.Estimator
	truth   map[types.NamespacedName]verdicts

	// wakeInstance, wakeGrants and wakeLedger reach the queues of the three controllers.
	wakeInstance signal
	wakeGrants   signal
	wakeLedger   signal
}

type entry struct {
	link   *link
	health health
	// closing says that the instance is being deleted, barred that its spec or its credential is out of order. Either way
	// the link revokes, and issues nothing more.
	closing, barred bool
}

func (e entry) issues() bool { return !e.closing && !e.barred && e.health.mayIssue() }

// NewConnections returns an empty registry.
func NewConnections() *Connections {
	return &Connections{
		accounts: budget.NewAccounts(), entries: map[types.NamespacedName]*entry{},
		clocks: map[types.NamespacedName]*skew.Estimator{}, truth: map[types.NamespacedName]verdicts{},
	}
}

// usable returns the link to an instance, or nil while there is none that works.
func (c *Connections) usable(instance types.NamespacedName) *link {
	e := c.get(instance)
	if !e.issues() {
		return nil
	}
	return e.link
}

// lastGood returns a link for revoking: it may outlive its instance and its credential Secret, as long as the service
// has refused nothing but to issue.
func (c *Connections) lastGood(instance types.NamespacedName) *link {
	e := c.get(instance)
	if !e.health.allows(opRevoke) {
		return nil
	}
	return e.link
}

func (c *Connections) get(instance types.NamespacedName) entry {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e, found := c.entries[instance]; found {
		return *e
	}
	return entry{}
}

// knows reports whether the instance reconciler has looked at the instance since this process started.
func (c *Connections) knows(instance types.NamespacedName) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, found := c.entries[instance]
	return found
}

// touch makes an instance known that could not be looked at, so that its grants report instead of waiting.
func (c *Connections) touch(instance types.NamespacedName) { c.change(instance, func(*entry) {}) }

// change takes in what the instance reconciler found and wakes the others when they can go on, or learn for the first time
// that they cannot.
func (c *Connections) change(instance types.NamespacedName, change func(*entry)) {
	c.mu.Lock()
	e, found := c.entries[instance]
	if !found {
		e = &entry{}
		c.entries[instance] = e
	}
	before := *e
	change(e)
	wake := !found || e.issues() && !before.issues() ||
		e.health.usable() && (!before.health.usable() || before.link != e.link)
	c.mu.Unlock()
	if wake {
		c.wakeGrants.send(instance)
		c.wakeLedger.send(instance)
	}
}

// changeLink takes in how a check of a link went, unless another link has come in its place.
func (c *Connections) changeLink(instance types.NamespacedName, l *link, change func(*health)) {
	c.change(instance, func(e *entry) {
		if e.link == l {
			change(&e.health)
		}
	})
}

// report notes how a call over the link went. A fault of the instance, or an outage, takes the link out of use for
// everybody at once; the instance reconciler checks it, later and later while it goes on. Refusals for too many calls slow
// the account down.
func (c *Connections) report(instance types.NamespacedName, l *link, operation string, err error, now time.Time) {
	if err != nil {
		switch fault := token.AsError(err); {
		case fault.Code == token.CodeLeaseLost: // no call was made
			return
		case fault.Kind == token.KindThrottled:
			l.budget.Throttled(budget.Operation(operation), now)
		}
	}
	if c.note(instance, l, operation, err, now) {
		c.wakeInstance.send(instance)
	}
}

func (c *Connections) note(instance types.NamespacedName, l *link, operation string, err error, now time.Time) (changed bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, found := c.entries[instance]
	if !found || e.link != l {
		return false
	}
	return e.health.note(operation, err, now, instance.String())
}

// flaky reports whether the service behind an instance has failed so much of late that it is better to renew early.
func (c *Connections) flaky(instance types.NamespacedName, now time.Time) bool {
	return c.get(instance).health.isFlaky(now)
}

// clock learns the time by an instance's service. It outlives the links, which come and go.
func (c *Connections) clock(instance types.NamespacedName) *skew.Estimator {
	c.mu.Lock()
	defer c.mu.Unlock()
	known, found := c.clocks[instance]
	if !found {
		known = &skew.Estimator{}
		c.clocks[instance] = known
	}
	return known
}

// offset is how far the clock of an instance's service is ahead of ours.
func (c *Connections) offset(instance types.NamespacedName) time.Duration {
	return c.clock(instance).Offset()
}
