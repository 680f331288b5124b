package controllers

import (
	"context"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/mqtt-token-operator/mqtt-token-operator/api/v1alpha1"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/ledger"
)

// Enter lets the suite do what the grant controller does.
func (l *Ledger) Enter(ctx context.Context, grant *v1alpha1.MqttTokenGrant, entries []ledger.Entry, now time.Time) error {
	return l.enter(ctx, grant, entries, now)
}

// Expedite lets the suite do what the grant controller does.
func (l *Ledger) Expedite(ctx context.Context, grant *v1alpha1.MqttTokenGrant, why ledger.Why, now time.Time) error {
	return l.expedite(ctx, grant, why, now)
}

// Pending lets the suite ask what the grant controller asks.
func (l *Ledger) Pending(grantUID types.UID) int { return l.pending(grantUID) }

// PendingOf lets the suite ask what the instance controller asks.
func (l *Ledger) PendingOf(instance types.NamespacedName) int { return l.pendingOf(instance) }
