package controllers

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/mqtt-token-operator/mqtt-token-operator/api/v1alpha1"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/credsecret"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/desired"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/ledger"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/plan"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/token"
)

// retired lists the live tokens of older generations on record.
func (seen observation) retired() []credsecret.Retired {
	return slices.DeleteFunc(slices.Clone(seen.secret.record.Retired), func(t credsecret.Retired) bool {
		return !t.Expires.After(seen.input.Now)
	})
}

// superseded lists every live token on record: those in use are about to be old too. That the service called one invalid
// ends no record: it may be wrong, or mean something else.
func (seen observation) superseded() []credsecret.Retired {
	list := seen.retired()
	for _, t := range seen.secret.record.Tokens {
		if t.Expires.After(seen.input.Now) {
			client := cmp.Or(seen.secret.facts.Client, seen.likelyClient())
			list = append(list, credsecret.Retired{Issued: t, Client: client, KeyID: seen.secret.facts.KeyID})
		}
	}
	return list
}

// currentInstanceID is the id of the grant's instance as far as anything says; empty: nothing does.
func (seen observation) currentInstanceID() string {
	switch {
	case seen.instance != nil:
		return seen.instance.Spec.InstanceID
	case seen.revoker != nil:
		return seen.revoker.instanceID
	}
	return ""
}

// likelyClient is whom a token was issued for of which the facts are gone: what the grant asks for now is the best guess.
func (seen observation) likelyClient() string {
	if id := seen.currentInstanceID(); id != "" {
		return id + "/" + desired.ClientID(seen.grant.Spec.Client)
	}
	return ""
}

// change is what older tokens are held against when the decision is carried out.
func (seen observation) change(why plan.Reason) plan.Change {
	c := plan.Change{
		Now: seen.input.Now, Wanted: seen.input.Wanted, Client: seen.input.Client, Overlap: seen.spec.Overlap,
		Compromised: seen.input.Compromised,
	}
	switch {
	case why == plan.ReasonHeld:
		c.All = plan.CauseHeld
	case why == plan.ReasonDenied && seen.input.Withdrawable:
		c.All = plan.CauseDenied
	case why == plan.ReasonReissue && seen.grant.Annotations[v1alpha1.ReissuePolicyAnnotation] == v1alpha1.ReissuePolicyRevoke:
		c.All = plan.CauseReissued
	case seen.secret.going || seen.input.Deleting:
		c.All = plan.CauseDeleted
	}
	return c
}

// division is what becomes of older tokens.
type division struct {
	stay    []credsecret.Retired // left to expire
	entries []ledger.Entry       // for the ledger
	// clamped says that one would have to go, but ends by itself before its overlap does.
	clamped bool
}

// divide tells the tokens that may be left to expire from those that must go.
func (seen observation) divide(old []credsecret.Retired, change plan.Change) (d division) {
	generations := make([]plan.Generation, 0, len(old))
	for _, t := range old {
		generations = append(generations, plan.Generation{
			Scope: t.Scope, Client: t.Client, KeyID: t.KeyID, Issued: t.Issued.Issued, Expires: t.Expires, RevokeAt: t.RevokeAt,
		})
	}
	for i, fate := range change.OfAll(generations) {
		t := old[i]
		d.clamped = d.clamped || fate.EndsFirst
		switch {
		case fate.Cause != "":
			d.entries = append(d.entries, seen.entry(t, fate))
		case fate.EndsFirst && change.All != "": // the Secret may not list it any more, so the ledger does until it ends
			d.entries = append(d.entries, seen.entry(t, plan.Fate{RevokeAt: t.Expires, Cause: change.All}))
		default:
			t.RevokeAt = time.Time{}
			d.stay = append(d.stay, t)
		}
	}
	return d
}

// leftOver lists the tokens that came from the service, reached no Secret and will reach none: they do not fit what is
// wanted by now.
func (seen observation) leftOver(unsaved []unsavedToken, used []credsecret.Issued) []ledger.Entry {
	var entries []ledger.Entry
	for _, t := range unsaved {
		inUse := slices.ContainsFunc(used, func(u credsecret.Issued) bool { return u.Value == t.Value })
		if !inUse && t.Expires.After(seen.input.Now) {
			entries = append(entries, seen.entry(credsecret.Retired{Issued: t.Issued, Client: t.client}, plan.Fate{RevokeAt: seen.input.Now, Cause: plan.CauseSurplus}))
		}
	}
	return entries
}

func (seen observation) entry(t credsecret.Retired, fate plan.Fate) ledger.Entry {
	// What goes at once goes from its issue on: a clock of the service that is set back meanwhile must not put it off.
	atOnce := !fate.RevokeAt.After(seen.input.Now) && t.Issued.Issued.Before(fate.RevokeAt)
	if atOnce && (fate.Cause == plan.CauseHeld || fate.Cause == plan.CauseDeleted) {
		fate.RevokeAt = t.Issued.Issued
	}
	return ledger.Entry{
		Value: t.Value, Scope: t.Scope, Client: t.Client, Instance: seen.revokedOver(t.Client),
		Expires: t.Expires, RevokeAt: fate.RevokeAt, Why: ledger.Why(fate.Cause),
	}
}

// revokedOver names the MqttInstance over which a token can be revoked: the grant's, or the one that it was moved away
// from. It is empty where nobody can; such a token is on record until it ends.
func (seen observation) revokedOver(client string) string {
	current := seen.currentInstanceID()
	own := desired.InstanceKey(seen.grant).String()
	if issuedBy(client, current) || current == "" && seen.secret.facts.Instance == own {
		return own // it may come back
	}
	return seen.former
}

// enter puts tokens into the ledger and reports whether they are there. If not, nothing may be taken off the Secret.
func (r *GrantReconciler) enter(ctx context.Context, seen observation, out *outcome, entries []ledger.Entry) bool {
	if len(entries) == 0 {
		return true
	}
	switch err := r.Ledger.enter(ctx, seen.grant, entries, seen.input.Now); {
	case err == nil:
		return true
	case errors.Is(err, ledger.ErrFull):
		out.problem = backlogProblem()
	case apierrors.IsConflict(err) || apierrors.IsAlreadyExists(err):
		out.err = err
	default:
		out.problem = ledgerProblem(err)
	}
	return false
}

// allEntries has every token that the process knows of revoked, whether on record or not.
func (r *GrantReconciler) allEntries(seen observation, change plan.Change) []ledger.Entry {
	return append(seen.divide(seen.superseded(), change).entries, seen.leftOver(r.recent.of(seen.grant).unsaved, nil)...)
}

// sameScope reports whether two scopes allow the same.
func sameScope(a, b token.Scope) bool {
	return token.ScopeID([]token.Scope{a}) == token.ScopeID([]token.Scope{b})
}
