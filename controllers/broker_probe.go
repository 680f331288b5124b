package controllers

import (
	"context"
	"errors"
	"fmt"
	"net"
	"regexp"
	"slices"
	"strconv"
	"sync"
	"time"

	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/mqtt-token-operator/mqtt-token-operator/api/v1alpha1"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/budget"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/credsecret"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/probe"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/token"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/topic"
)

// Which AccessKey id a client's username must carry is documented nowhere for a key that is temporary. A probe asks the
// broker instead of hoping.

const (
	// probeAgain is how long a good answer stands, probeRetry a bad one.
	probeAgain = 24 * time.Hour
	probeRetry = 10 * time.Minute
	// probeValidity is how long the probe's token would live if nobody could revoke it.
	probeValidity = 2 * time.Minute
)

// BrokerProbe asks a broker whether it admits a token. Its error is a *probe.RefusedError.
type BrokerProbe func(context.Context, probe.Target) error

// probes holds what the brokers answered. It is safe for concurrent use.
type probes struct {
	mu    sync.Mutex
	known map[types.NamespacedName]probed
}

// probed is how it stands with the broker of an instance.
type probed struct {
	version string // of link and spec that were asked with
	at      time.Time
	verdict *verdictOnBroker
	running bool
	// left is the token that was asked with, until it is revoked.
	left token.Value
}

// verdictOnBroker is what the condition says.
type verdictOnBroker struct {
	status          metav1.ConditionStatus
	reason, message string
}

func newProbes() *probes { return &probes{known: map[types.NamespacedName]probed{}} }

func (p *probes) of(key types.NamespacedName) probed {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.known[key]
}

func (p *probes) note(key types.NamespacedName, change func(*probed)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	known := p.known[key]
	change(&known)
	p.known[key] = known
}

func (p *probes) forget(key types.NamespacedName) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.known, key)
}

func (p probed) due(now time.Time) time.Time {
	switch {
	case p.at.IsZero():
		return now
	case p.verdict != nil && p.verdict.status == metav1.ConditionTrue:
		return p.at.Add(probeAgain)
	}
	return p.at.Add(probeRetry)
}

// tendProbe asks the broker when that is due, over a link that works, and returns what it last answered and when to come
// back; nil: nobody asks. The conversation itself runs beside the controller, which it wakes when it is over.
func (r *InstanceReconciler) tendProbe(ctx context.Context, instance *v1alpha1.MqttInstance, l *link, now time.Time) (*verdictOnBroker, time.Time) {
	key, wanted := client.ObjectKeyFromObject(instance), instance.Spec.Broker.Probe
	if wanted.Topic == "" || !instance.DeletionTimestamp.IsZero() {
		r.probes.forget(key)
		return nil, time.Time{}
	}
	if l == nil || r.Connections.usable(key) == nil {
		return r.lastVerdict(instance), time.Time{}
	}
	version := token.NewValue(fmt.Sprintf("%s %+v", l.version, instance.Spec.Broker)).Fingerprint("probe")
	if known := r.probes.of(key); known.version != version && !known.running {
		r.probes.note(key, func(p *probed) {
			left := p.left
			*p = afresh(instance, version, now)
			p.left = left
		})
	}
	if wait := r.revokeLeft(ctx, key, l, now); wait > 0 {
		return r.lastVerdict(instance), now.Add(wait)
	}
	known := r.probes.of(key)
	if next := known.due(now); known.running || next.After(now) {
		return r.lastVerdict(instance), next
	}
	if wait := r.startProbe(ctx, instance, l, now); wait > 0 {
		return r.lastVerdict(instance), now.Add(wait)
	}
	return r.lastVerdict(instance), r.probes.of(key).due(now)
}

// afresh takes the condition's word for it after a restart: that asks the service for nothing.
func afresh(instance *v1alpha1.MqttInstance, version string, now time.Time) probed {
	c := apimeta.FindStatusCondition(instance.Status.Conditions, v1alpha1.BrokerAcceptsCondition)
	if c == nil || c.Status != metav1.ConditionTrue || c.ObservedGeneration != instance.Generation {
		return probed{version: version}
	}
	return probed{version: version, at: now, verdict: &verdictOnBroker{c.Status, c.Reason, c.Message}}
}

func (r *InstanceReconciler) lastVerdict(instance *v1alpha1.MqttInstance) *verdictOnBroker {
	if v := r.probes.of(client.ObjectKeyFromObject(instance)).verdict; v != nil {
		return v
	}
	if c := apimeta.FindStatusCondition(instance.Status.Conditions, v1alpha1.BrokerAcceptsCondition); c != nil {
		return &verdictOnBroker{c.Status, c.Reason, c.Message}
	}
	return &verdictOnBroker{metav1.ConditionUnknown, v1alpha1.ReasonProgressing, "The broker is about to be asked."}
}

// startProbe applies for a token that lives for minutes, and sends somebody to the broker with it.
func (r *InstanceReconciler) startProbe(ctx context.Context, instance *v1alpha1.MqttInstance, l *link, now time.Time) (wait time.Duration) {
	key := client.ObjectKeyFromObject(instance)
	target, refused := r.probeTarget(instance, l)
	if refused != nil {
		r.probes.note(key, func(p *probed) { p.at, p.verdict = now, refused })
		return 0
	}
	ask := budget.Ask{Operation: budget.Apply, Lane: budget.ApplyRoutine, ID: "probe/" + string(instance.UID), N: 1}
	if wait = l.budget.Take(ask, now); wait > 0 {
		return wait
	}
	value, err := r.applyForProbe(ctx, instance, l, now)
	l.budget.Done(ask.Operation, ask.ID)
	if err != nil {
		p := classify(token.AsError(err))
		r.probes.note(key, func(known *probed) {
			known.at = now
			known.verdict = &verdictOnBroker{metav1.ConditionFalse, v1alpha1.ReasonProbeFailed, "No token could be had to ask the broker with: " + p.message}
		})
		return 0
	}
	target.Password = credsecret.Password(token.PublishSubscribe, value)
	r.probes.note(key, func(p *probed) { p.running, p.at = true, now })
	go func() {
		verdict := verdictOf(r.Probe(context.WithoutCancel(ctx), target), target)
		r.probes.note(key, func(p *probed) { p.running, p.verdict, p.left = false, verdict, value })
		r.Connections.wakeInstance.send(key)
	}()
	return 0
}

func (r *InstanceReconciler) applyForProbe(ctx context.Context, instance *v1alpha1.MqttInstance, l *link, now time.Time) (token.Value, error) {
	key := client.ObjectKeyFromObject(instance)
	filter, err := topic.Parse(instance.Spec.Broker.Probe.Topic)
	if err != nil {
		return token.Value{}, &token.Error{Kind: token.KindInvalid, Op: "Apply", Code: "ProbeTopic", Err: err}
	}
	scope, err := token.NewScope(token.PublishSubscribe, filter)
	if err != nil {
		return token.Value{}, &token.Error{Kind: token.KindInvalid, Op: "Apply", Code: "ProbeTopic", Err: err}
	}
	value, err := l.service.Apply(ctx, scope, now.Add(r.Connections.offset(key)).Add(probeValidity))
	r.Connections.report(key, l, opApply, err, now)
	return value, err
}

// revokeLeft revokes the token of the last probe, when its turn has come. If the service does not take it, it ends within
// minutes.
func (r *InstanceReconciler) revokeLeft(ctx context.Context, key types.NamespacedName, l *link, now time.Time) time.Duration {
	left := r.probes.of(key).left
	if left.IsZero() {
		return 0
	}
	ask := budget.Ask{Operation: budget.Revoke, Lane: budget.RevokeHandedOver, ID: "probe/" + key.String(), N: 1}
	if wait := l.budget.Take(ask, now); wait > 0 {
		return wait
	}
	err := l.service.Revoke(ctx, left)
	l.budget.Done(ask.Operation, ask.ID)
	r.Connections.report(key, l, opRevoke, err, now)
	r.probes.note(key, func(p *probed) { p.left = token.Value{} })
	return 0
}

// probeTarget is whom to ask. An instance's owner must not have the manager connect to any host there is.
func (r *InstanceReconciler) probeTarget(instance *v1alpha1.MqttInstance, l *link) (probe.Target, *verdictOnBroker) {
	spec := instance.Spec
	target := probe.Target{
		Host: spec.Broker.Host, Port: spec.Broker.Ports.TLS, Topic: spec.Broker.Probe.Topic,
		ClientID: spec.Broker.Probe.GroupID + "@@@probe-" + token.NewValue(string(instance.UID)).Fingerprint("probe"),
		Username: credsecret.Username(l.keyID, l.instanceID),
	}
	if target.Host == "" {
		target.Host = brokerHost(spec.InstanceID)
	}
	listed := slices.Contains(r.AllowedEndpoints, net.JoinHostPort(target.Host, strconv.Itoa(int(target.Port))))
	if !listed && !regexp.MustCompile(`^[A-Za-z0-9-]+\.mqtt\.aliyuncs\.com$`).MatchString(target.Host) {
		return target, &verdictOnBroker{
			metav1.ConditionFalse, v1alpha1.ReasonEndpointNotAllowed,
			fmt.Sprintf("The manager does not connect to %s:%d. Start it with --allowed-endpoints=%s:%d, or leave the probe out.", target.Host, target.Port, target.Host, target.Port),
		}
	}
	if listed && spec.Broker.CABundle != "" {
		target.CA = []byte(spec.Broker.CABundle)
	}
	return target, nil
}

// brokerHost is where an instance's clients connect unless its spec says otherwise.
func brokerHost(instanceID string) string { return instanceID + ".mqtt.aliyuncs.com" }

func verdictOf(err error, target probe.Target) *verdictOnBroker {
	var refusal *probe.RefusedError
	switch {
	case err == nil:
		return &verdictOnBroker{metav1.ConditionTrue, v1alpha1.ReasonBrokerAdmits, fmt.Sprintf("The broker admits clients with the username %s, and lets them subscribe and publish.", target.Username)}
	case errors.As(err, &refusal) && refusal.Step == probe.StepReach:
		return &verdictOnBroker{
			metav1.ConditionFalse, v1alpha1.ReasonBrokerUnreachable,
			fmt.Sprintf("The manager cannot reach the broker at %s:%d: %s. Clients elsewhere may. Check spec.broker and the network policies.", target.Host, target.Port, refusal.Answer),
		}
	case errors.As(err, &refusal):
		return &verdictOnBroker{
			metav1.ConditionFalse, v1alpha1.ReasonBrokerRefused,
			fmt.Sprintf("The broker answers %s of a client with the username %s: %s. Check spec.clientAccessKeyID, and the probe's group and topic at the service.", refusal.Step, target.Username, refusal.Answer),
		}
	}
	return &verdictOnBroker{metav1.ConditionFalse, v1alpha1.ReasonProbeFailed, "The broker could not be asked."}
}

// show puts the verdict into the conditions.
func (v *verdictOnBroker) show(set *conditionSet) {
	if v == nil {
		set.remove(v1alpha1.BrokerAcceptsCondition)
		return
	}
	set.set(v1alpha1.BrokerAcceptsCondition, v.status, v.reason, v.message)
}

// problem is what somebody should be told of; nil for good news and none.
func (v *verdictOnBroker) problem() *problem {
	if v == nil || v.status != metav1.ConditionFalse {
		return nil
	}
	return &problem{reason: v.reason, message: v.message}
}
