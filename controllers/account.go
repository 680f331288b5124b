package controllers

import (
	"cmp"
	"context"
	"strings"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/mqtt-token-operator/mqtt-token-operator/api/v1alpha1"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/budget"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/token"
)

// The quota is the account's, and only another service knows which account a key belongs to. It is asked beside the
// controller, for nothing waits for the answer: until it comes, and where it does not, a key stands for its own account.

// accountRetry is how long after a failure somebody asks again.
const accountRetry = time.Hour

// accounts holds what is known of the keys' accounts. It is safe for concurrent use.
type accounts struct {
	mu    sync.Mutex
	known map[string]accountAnswer // by fingerprint of the key, or of who else speaks
}

type accountAnswer struct {
	account string
	asking  bool
	retryAt time.Time
}

func newAccounts() *accounts { return &accounts{known: map[string]accountAnswer{}} }

// speakerID identifies who speaks for an instance.
func speakerID(d token.Connection) string {
	i := d.Identity
	parts := []string{
		d.AccessKeyID, d.AccessKeySecret.Reveal(), string(i.Type), i.RoleARN, i.OIDCProviderARN, i.RoleName, i.Assume.RoleARN, i.Assume.ExternalID.Reveal(),
	}
	return token.NewValue(strings.Join(parts, "\n")).Fingerprint("speaker")
}

// of returns the account of a speaker, as the service told it; empty: it has not.
func (a *accounts) of(d token.Connection) string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.known[speakerID(d)].account
}

// mayAsk reports whether somebody should ask now, and notes that they do.
func (a *accounts) mayAsk(d token.Connection, now time.Time) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	answer := a.known[speakerID(d)]
	if answer.account != "" || answer.asking || now.Before(answer.retryAt) {
		return false
	}
	answer.asking = true
	a.known[speakerID(d)] = answer
	return true
}

// learn notes the answer; an empty one is a failure.
func (a *accounts) learn(d token.Connection, account string, now time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.known[speakerID(d)] = accountAnswer{account: account, retryAt: now.Add(accountRetry)}
}

// accountOf names the account whose quota the calls of a connection count against, as far as that can be told without
// asking: a role's ARN names its account; a key stands for its own. The manager's other identities are one each.
func accountOf(d token.Connection) string {
	arn := cmp.Or(d.Identity.Assume.RoleARN, d.Identity.RoleARN)
	if parts := strings.Split(arn, ":"); len(parts) > 3 && parts[3] != "" { // acs:ram::1001:role/mqtt
		return parts[3]
	}
	return cmp.Or(d.AccessKeyID, string(d.Identity.Type))
}

// joinAccount returns the budget of the account that a connection calls for, and its name. An account that the service has
// not confirmed is one's own: who only names an AccessKey, and does not have its secret, must not set its pace.
func (r *InstanceReconciler) joinAccount(d token.Connection, instance *v1alpha1.MqttInstance, now time.Time) (string, *budget.Budget) {
	quota := map[budget.Operation]int32{
		budget.Apply: instance.Spec.Quota.ApplyPerSecond, budget.Query: instance.Spec.Quota.QueryPerSecond, budget.Revoke: instance.Spec.Quota.RevokePerSecond,
	}
	account := r.accounts.of(d)
	name := "account/" + account
	if account == "" {
		account = accountOf(d)
		name = account + "/" + d.AccessKeySecret.Fingerprint("account")
	}
	return account, r.Connections.accounts.Join(name, client.ObjectKeyFromObject(instance).String(), quota, now)
}

// tendAccount has a working link use the budget of its account, as soon as that is known, and asks for it once. Only the
// vendor's own endpoints have the vendor's accounts behind them.
func (r *InstanceReconciler) tendAccount(ctx context.Context, instance *v1alpha1.MqttInstance, d token.Connection, now time.Time) {
	key := client.ObjectKeyFromObject(instance)
	l := r.Connections.usable(key)
	if l == nil || r.AccountOf == nil || instance.Spec.Endpoint != "" && !isVendorEndpoint(instance.Spec.Endpoint) {
		return
	}
	if account := r.accounts.of(d); account != "" && account != l.account {
		moved := *l
		moved.account, moved.budget = r.joinAccount(d, instance, now)
		r.Connections.change(key, func(e *entry) { e.link = &moved })
		return
	}
	if r.accounts.mayAsk(d, now) {
		go r.askAccount(context.WithoutCancel(ctx), key, d)
	}
}

func (r *InstanceReconciler) askAccount(ctx context.Context, key types.NamespacedName, d token.Connection) {
	account, err := r.AccountOf(ctx, d)
	if err != nil {
		account = ""
	}
	r.accounts.learn(d, account, r.Clock.Now())
	if account != "" {
		r.Connections.wakeInstance.send(key)
	}
}
