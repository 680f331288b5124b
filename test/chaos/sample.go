package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/mqtt-token-operator/mqtt-token-operator/api/v1alpha1"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/credsecret"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/ledger"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/simulator/state"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/simulator/wire"
)

const (
	tick        = 250 * time.Millisecond
	sampleEvery = time.Second
	// repairWithin is how long the operator may take to make good what we broke, or to serve a grant that is new or
	// released.
	repairWithin = 30 * time.Second
	// queueWithin is how long a revocation may wait for its turn: four a second, behind those of a whole namespace.
	queueWithin = 30 * time.Second
	// endWithin is how long a deletion may take beyond its deadline.
	endWithin = 10 * time.Second
)

// standing is what a client of a grant may expect.
type standing struct {
	// excused says since when it need not have access: the grant is new, was held, or its Secret was damaged by us.
	excused bool
	since   time.Duration
	// told says that a violation was told already.
	told bool
	// renewal is when the tokens are renewed, due the up time at which that was seen to have come.
	renewal time.Time
	due     time.Duration
}

// chance is how long a manager must have worked since a renewal was due for the end of the tokens to be its fault.
const chance = 10 * time.Second

// watchRenewal takes in when a grant's tokens are renewed.
func (s *standing) watchRenewal(renewal *metav1.Time, now time.Time, up time.Duration) {
	switch {
	case renewal == nil:
		s.renewal = time.Time{}
	case !renewal.Time.Equal(s.renewal):
		s.renewal, s.due = renewal.Time, up
	}
	if now.Before(s.renewal) {
		s.due = up
	}
}

// hadNoChance reports whether no manager has worked long enough since the tokens were due to be renewed.
func (s *standing) hadNoChance(up time.Duration) bool {
	return !s.renewal.IsZero() && up-s.due < chance
}

// keepTime measures up time, and the time without a leader.
func (w *world) keepTime(ctx context.Context) {
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	last, lastLed := time.Now(), time.Now()
	var before *manager
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		now := time.Now()
		leader := w.managers.leader()
		if leader != nil {
			if gap := now.Sub(lastLed); leader != before && before != nil {
				w.settings.update(func(f *figures) { f.takeovers++; f.leaderless = max(f.leaderless, gap) })
			}
			before, lastLed = leader, now
		}
		alive, revocations := w.alive(), w.revocations()
		w.mu.Lock()
		w.book.notice(now, alive)
		w.repeats.notice(now, revocations)
		if leader != nil && len(w.troubled) == 0 {
			w.up += min(now.Sub(last), 2*tick)
		}
		w.mu.Unlock()
		last = now
	}
}

// snapshot is what the API server holds at about one moment: Secrets first, then the ledger, because tokens move from
// the first to the second.
type snapshot struct {
	grants  map[types.NamespacedName]*v1alpha1.MqttTokenGrant
	secrets map[types.NamespacedName]*corev1.Secret
	pages   []corev1.Secret
}

func (w *world) snapshot(ctx context.Context) (*snapshot, error) {
	var grants v1alpha1.MqttTokenGrantList
	var secrets, pages corev1.SecretList
	if err := w.api.List(ctx, &grants); err != nil {
		return nil, err
	}
	if err := w.api.List(ctx, &secrets, client.MatchingFields{"type": credsecret.Type}); err != nil {
		return nil, err
	}
	if err := w.api.List(ctx, &pages, client.InNamespace(managerHome), client.MatchingFields{"type": string(ledger.Type)}); err != nil {
		return nil, err
	}
	s := &snapshot{
		grants: map[types.NamespacedName]*v1alpha1.MqttTokenGrant{}, secrets: map[types.NamespacedName]*corev1.Secret{}, pages: pages.Items,
	}
	for i := range grants.Items {
		s.grants[client.ObjectKeyFromObject(&grants.Items[i])] = &grants.Items[i]
	}
	for i := range secrets.Items {
		s.secrets[client.ObjectKeyFromObject(&secrets.Items[i])] = &secrets.Items[i]
	}
	return s, nil
}

// sample checks once a second until the context ends.
func (w *world) sample(ctx context.Context) {
	ticker := time.NewTicker(sampleEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			if s, err := w.snapshot(ctx); err == nil {
				w.check(ctx, s)
			}
		}
	}
}

func (w *world) check(ctx context.Context, s *snapshot) {
	w.checkRecords(s)
	w.checkDooms()
	w.checkEndings(s)
	w.checkCalls()
	w.checkRepeats()
	for key := range s.grants {
		w.checkAccess(ctx, key, s.grants[key], s.secrets[key])
	}
	for _, grant := range s.grants {
		w.checked(discreet, 1)
		if text := fmt.Sprintf("%+v", grant.Status); w.texts.in(text) {
			w.violated(discreet, "the status of grant %s/%s holds a secret", grant.Namespace, grant.Name)
		}
	}
}

func (w *world) checkRecords(s *snapshot) {
	known := map[string]bool{}
	for _, secret := range s.secrets {
		for _, id := range w.tokensIn(secret) {
			known[id] = true
		}
	}
	for i := range s.pages {
		for _, id := range w.tokensIn(&s.pages[i]) {
			known[id] = true
		}
	}
	alive := w.alive()
	w.mu.Lock()
	problems := w.book.judge(w.up, alive, known)
	w.mu.Unlock()
	w.checked(onRecord, len(alive))
	w.checked(deleted, len(alive))
	for _, p := range problems {
		what := onRecord
		if owner := w.ownerOf(p.id); s.grants[owner] == nil {
			what = deleted
		}
		w.broke(what, w.ownerOf(p.id), "token %s: %s", w.describe(p.id), p.what)
	}
}

// ownerOf is the grant whose topics a token carries.
func (w *world) ownerOf(id string) types.NamespacedName {
	t, _ := w.cloud.State().Lookup(id)
	if len(t.Topics) == 0 {
		return types.NamespacedName{}
	}
	parts := strings.SplitN(t.Topics[0], "/", 3)
	return types.NamespacedName{Namespace: parts[0], Name: parts[1]}
}

// describe tells what is known of a token; its text is not.
func (w *world) describe(id string) string {
	t, validity := w.cloud.State().Lookup(id)
	w.mu.Lock()
	born := w.book.born[id]
	w.mu.Unlock()
	return fmt.Sprintf("%s (%s of %s at %s, first seen after %.1fs, expires %s, %s, %s)", id, t.Type, w.ownerOf(id), t.InstanceID,
		born.Sub(w.began).Seconds(), t.Expires.Format(time.TimeOnly), validity, strings.Join(t.Topics, " "))
}

// checkDooms looks at what must be dead by now.
func (w *world) checkDooms() {
	alive := w.cloud.State().Tokens()
	w.mu.Lock()
	up, open := w.up, slices.DeleteFunc(slices.Clone(w.dooms), func(d *doom) bool { return d.over })
	w.mu.Unlock()
	w.checked(narrowed, len(open))
	for _, d := range open {
		left, late := w.survivor(d, alive), d.late(up)
		switch {
		case left == "":
			d.over = d.carries == "" || late > queueWithin
		case late > queueWithin:
			d.over = true
			w.broke(narrowed, d.grant, "%s: token %s of grant %s is alive %s of working time after the overlap", d.why, left, d.grant, late.Round(time.Second))
		case late > 0:
			w.settings.update(func(f *figures) {
				if late > f.worstLate {
					f.worstLate, f.worstLateGrant = late, d.grant.String()+", "+d.why
				}
			})
		}
	}
}

// survivor returns a token that is alive although it must go; empty if there is none.
func (w *world) survivor(d *doom, tokens []state.Token) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, t := range tokens {
		_, validity := w.cloud.State().Lookup(t.ID)
		hit := d.ids[t.ID] || d.carries != "" && slices.Contains(t.Topics, d.carries)
		if hit && validity == state.Valid && !w.book.isLost(t.ID) {
			return t.ID
		}
	}
	return ""
}

func (w *world) checkEndings(s *snapshot) {
	deleting := map[string]string{}
	for key, grant := range s.grants {
		if grant.DeletionTimestamp != nil {
			deleting[string(grant.UID)] = key.String()
		}
	}
	w.mu.Lock()
	late := w.endings.follow(w.up, deleting, revocationDeadline+endWithin)
	w.mu.Unlock()
	w.checked(inTime, len(deleting))
	for _, text := range late {
		w.violated(inTime, "grant %s", text)
	}
}

// checkCalls holds the simulator's busiest second against the account's quota.
func (w *world) checkCalls() {
	const all = 250
	quotas, peaks := state.DefaultQuotas(), w.cloud.Peaks()
	w.checked(budgeted, 1)
	for op, most := range map[state.Operation]int{state.Apply: quotas.Apply, state.Query: quotas.Query, state.Revoke: quotas.Revoke, wire.AllOperations: all} {
		if got := peaks[op]; got > most {
			w.violatedOnce(budgeted, string(op), "%d calls of %s within one second, more than %d", got, op, most)
		}
	}
}

// checkRepeats looks for tokens that were revoked again without need.
func (w *world) checkRepeats() {
	revocations := w.revocations()
	w.mu.Lock()
	w.repeats.notice(time.Now(), revocations)
	problems := w.repeats.judge()
	w.mu.Unlock()
	w.checked(revokedOnce, len(revocations))
	for _, id := range problems {
		w.broke(revokedOnce, w.ownerOf(id), "token %s was revoked %d times, and no end of a leader or lost reply explains it", w.describe(id), revocations[id])
	}
}

// checkAccess holds what a grant's Secret offers against what the service takes.
func (w *world) checkAccess(ctx context.Context, key types.NamespacedName, grant *v1alpha1.MqttTokenGrant, secret *corev1.Secret) {
	if !entitled(grant) {
		w.excuse(key)
		return
	}
	w.checked(access, 1)
	why, ended := w.useless(secret)
	if why != "" { // it may have changed between the two looks
		var again v1alpha1.MqttTokenGrant
		var current corev1.Secret
		if w.api.Get(ctx, key, &again) != nil || !entitled(&again) || client.IgnoreNotFound(w.api.Get(ctx, key, &current)) != nil {
			return
		}
		secret = &current
		why, ended = w.useless(secret)
	}
	w.mu.Lock()
	s := w.standing[key]
	if s == nil {
		s = &standing{excused: true, since: w.up}
		w.standing[key] = s
	}
	if s.watchRenewal(grant.Status.RenewalTime, time.Now(), w.up); ended && !s.excused && s.hadNoChance(w.up) {
		s.excused, s.since = true, w.up
	}
	gone := w.up - s.since
	bad := why != "" && !s.told && (!s.excused || gone > repairWithin)
	excused := s.excused
	switch {
	case why == "" && !w.isDoomed(key, secret):
		s.excused, s.told = false, false
	case bad:
		s.told = true
	}
	w.mu.Unlock()
	switch {
	case bad && excused:
		w.broke(repaired, key, "grant %s: %s, %s of working time after it was created, released or damaged", key, why, gone.Round(time.Second))
	case bad:
		w.broke(access, key, "grant %s: %s", key, why)
	case excused:
		w.checked(repaired, 1)
	}
}

// entitled tells whether a client may expect tokens that work.
func entitled(grant *v1alpha1.MqttTokenGrant) bool {
	_, held := grant.Annotations[v1alpha1.HoldAnnotation]
	return grant.DeletionTimestamp == nil && !held
}

// excuse notes that a grant need not have access now.
func (w *world) excuse(key types.NamespacedName) {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.standing[key]
	if s == nil {
		s = &standing{}
		w.standing[key] = s
	}
	s.excused, s.told, s.since = true, false, w.up
}

// isExcused reports whether a grant need not have access now.
func (w *world) isExcused(key types.NamespacedName) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.standing[key]
	return s != nil && s.excused
}

// useless says why a Secret gives no access, nothing if it does, and whether that is because a token has expired.
func (w *world) useless(secret *corev1.Secret) (why string, ended bool) {
	if secret == nil || secret.Name == "" {
		return "it has no Secret", false
	}
	ids := offered(secret)
	if len(ids) == 0 {
		return "its Secret offers no token", false
	}
	for _, id := range ids {
		if _, validity := w.cloud.State().Lookup(id); validity != state.Valid {
			return fmt.Sprintf("its Secret (version %s) offers token %s", secret.ResourceVersion, w.describe(id)), validity == state.Expired
		}
	}
	return "", false
}

// isDoomed reports whether a Secret offers tokens that are about to go: those of a hold that was lifted before it was over
// are no access yet. The caller holds the lock.
func (w *world) isDoomed(key types.NamespacedName, secret *corev1.Secret) bool {
	ids := offered(secret)
	return slices.ContainsFunc(w.dooms, func(d *doom) bool {
		return d.grant == key && !d.over && slices.ContainsFunc(ids, func(id string) bool { return d.ids[id] })
	})
}
