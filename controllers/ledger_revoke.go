package controllers

import (
	"cmp"
	"context"
	"slices"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/mqtt-token-operator/mqtt-token-operator/internal/budget"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/killpoint"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/ledger"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/plan"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/rollout"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/token"
)

// errand is what is done in one pass over a page: one token is revoked, the page is tidied, or nothing until a moment.
type errand struct {
	// token is what is to be revoked, over link; nil: none is.
	token *ledger.EntryFacts
	link  *link
	// tidy says that the page holds what is over, or facts that cannot be read.
	tidy bool
	// at is when to look again, if there is nothing to do now; zero: only on a change.
	at time.Time
}

func (b errand) idle() bool { return b.token == nil && !b.tidy }

// decide picks what is to be done now: the most urgent token that can be revoked.
func (seen pageObservation) decide() errand {
	var b errand
	waiting := false
	for _, e := range seen.facts.Due(seen.now) {
		if slices.Contains(seen.recent.revoked, e.Fingerprint) {
			b.tidy = true
			continue
		}
		if at := seen.notBefore(e); at.After(seen.now) {
			b.at = earlier(b.at, at)
			continue
		}
		switch l := seen.link(e); {
		case l == nil:
			waiting = true
		case b.token == nil:
			b.token, b.link = &e, l
		}
	}
	if waiting {
		b.at = earlier(b.at, seen.now.Add(linkRecheck))
	}
	next := seen.facts.Next(seen.now)
	b.at = earlier(b.at, next)
	b.tidy = b.tidy || seen.damaged || len(seen.facts.Entries) == 0 || !next.After(seen.now)
	return b
}

// notBefore is when a token may be revoked, or tried again.
func (seen pageObservation) notBefore(e ledger.EntryFacts) time.Time {
	at := seen.recent.retryAt
	if own := seen.recent.refused[e.Fingerprint].retryAt; own.After(at) {
		at = own
	}
	// The tokens of a client that is cut off, not allowed, or whose grant is gone go whoever still offers them: no others are
	// about to come in their place.
	final := e.Why == ledger.Held || e.Why == ledger.Denied || e.Why == ledger.Deleted
	// Pods that cannot reload still use what their grant has replaced, unless that must not be used any more.
	replaced := e.Why == ledger.Narrowed || e.Why == ledger.Reissued
	if end := e.RevokeAt.Add(rollout.AtMost); seen.rolling && replaced && end.After(at) {
		at = end
	}
	if end := e.RevokeAt.Add(graceInUse); seen.inUse[e.Fingerprint] && !final && end.After(at) {
		at = end
	}
	return at
}

func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// laneOf is how urgent a revocation is to the call budget.
func laneOf(why ledger.Why) budget.Lane {
	switch why {
	case ledger.Held, ledger.Reissued, ledger.Compromised:
		return budget.RevokeNow
	case ledger.Denied, ledger.Narrowed, ledger.Surplus:
		return budget.RevokeDue
	case ledger.Deleted:
	}
	return budget.RevokeHandedOver
}

// turn is how long the call budget keeps the page waiting; zero: its turn is now. A place that it has no use for any more
// is given up.
func (r *LedgerReconciler) turn(seen pageObservation, b errand) time.Duration {
	if last := seen.recent.queued; last != nil && (b.link == nil || b.link.budget != last) {
		last.Done(budget.Revoke, seen.name)
		r.recent.note(seen.name, func(p *recentPage) { p.queued = nil })
	}
	if b.link == nil {
		return 0
	}
	r.recent.note(seen.name, func(p *recentPage) { p.queued = b.link.budget })
	return b.link.budget.Take(budget.Ask{
		Operation: budget.Revoke, Lane: laneOf(b.token.Why), Deadline: b.token.RevokeAt, ID: seen.name, N: 1,
	}, r.Clock.Now())
}

// act revokes the token and brings the page up to date, in one write.
func (r *LedgerReconciler) act(ctx context.Context, seen pageObservation, b errand) error {
	waits := false
	defer func() {
		if b.link != nil && !waits {
			b.link.budget.Done(budget.Revoke, seen.name)
			r.recent.note(seen.name, func(p *recentPage) { p.queued = nil })
		}
	}()
	secret, page, err := r.Ledger.read(ctx, seen.name)
	if apierrors.IsNotFound(err) {
		r.Ledger.removed(seen.name, seen.version)
		return nil
	}
	if err != nil {
		return err
	}
	page.Grant = cmp.Or(page.Grant, seen.facts.Grant)
	r.logDamage(ctx, seen.name, page)
	waits = r.revoke(ctx, seen, b, page)
	recent := r.recent.of(seen.name)
	var revoked []token.Value
	for _, e := range page.Entries {
		if slices.Contains(recent.revoked, e.Value.Fingerprint(page.GrantUID)) {
			revoked = append(revoked, e.Value)
		}
	}
	left := page.Without(revoked, seen.now)
	if left.IsEmpty() {
		if err := r.Ledger.remove(ctx, secret); err != nil {
			return err
		}
		return r.tellRevoked(ctx, page.Facts(), recent.count)
	}
	written, err := r.Ledger.write(ctx, secret, left)
	if err != nil {
		return err
	}
	if change, ok := r.Ledger.index.seen(viewOfPage(&written)); ok {
		r.Ledger.announce(change)
	}
	r.recent.note(seen.name, func(p *recentPage) { p.revoked = nil }) // none of them is on record any more
	return nil
}

// tellRevoked tells the grant, if it is still there, that nothing is left to revoke.
func (r *LedgerReconciler) tellRevoked(ctx context.Context, page ledger.Facts, count int) error {
	grant, err := r.Ledger.grant(ctx, types.UID(page.GrantUID))
	switch {
	case grant != nil:
		tell(r.Events, grant, revokedEvent(count))
	case err == nil:
		r.Ledger.index.forgetRevoked(ledger.Name(page.GrantUID))
	}
	return err
}

// revoke revokes the token of the errand, if it is still on the page. It reports whether the errand keeps its place in the
// call budget: reading the page took so long that it waits anew.
func (r *LedgerReconciler) revoke(ctx context.Context, seen pageObservation, b errand, page ledger.Page) (waits bool) {
	isMeant := func(e ledger.Entry) bool {
		return b.token != nil && e.Value.Fingerprint(page.GrantUID) == b.token.Fingerprint
	}
	due := page.Due(seen.now)
	i := slices.IndexFunc(due, isMeant)
	if i < 0 {
		return false
	}
	if r.turn(seen, b) > 0 {
		return true
	}
	e := due[i]
	err := b.link.service.Revoke(ctx, e.Value)
	r.Connections.report(nameOf(e.Instance), b.link, opRevoke, err, r.Clock.Now())
	if err == nil {
		killpoint.Reached(killpoint.AfterRevoke)
		r.Ledger.index.noteRevoked(seen.name, b.token.Fingerprint, e.Expires, seen.now)
		r.recent.note(seen.name, func(p *recentPage) { p.succeeded(b.token.Fingerprint) })
		return false
	}
	fault := token.AsError(err)
	if fault.Code == token.CodeLeaseLost { // another manager goes on
		return false
	}
	log.FromContext(ctx).Error(fault, "A token cannot be revoked yet", "grant", page.Grant, "instance", e.Instance, "reason", e.Why)
	if fault.Kind == token.KindDenied || fault.Kind == token.KindInvalid { // about the token alone: it holds up no other
		r.recent.note(seen.name, func(p *recentPage) { p.refuse(b.token.Fingerprint, seen.now) })
		return false
	}
	r.recent.note(seen.name, func(p *recentPage) { p.attempt = p.failed(seen.name, fault.RetryAfter, seen.now) })
	return false
}

// attempt counts failures in a row, and says when to try again.
type attempt struct {
	failures int
	retryAt  time.Time
}

func (a attempt) failed(seed string, atLeast time.Duration, now time.Time) attempt {
	return attempt{failures: a.failures + 1, retryAt: now.Add(max(atLeast, plan.Backoff(a.failures+1, seed)))}
}
