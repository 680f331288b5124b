package controllers

import (
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/mqtt-token-operator/mqtt-token-operator/api/v1alpha1"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/rollout"
)

// Rollouts knows whose consumers have their newest tokens. After a restart of the manager it learns that anew. It is safe
// for concurrent use.
type Rollouts struct {
	mu    sync.Mutex
	known map[types.UID]rolledOut
}

// rolledOut is how far the consumers of a grant are.
type rolledOut struct {
	// issued is when the tokens were issued that all of them have.
	issued time.Time
	// told holds what was last told of each target that is not restarted.
	told map[v1alpha1.RolloutTarget]rollout.Problem
}

// NewRollouts returns one that knows of nobody.
func NewRollouts() *Rollouts { return &Rollouts{known: map[types.UID]rolledOut{}} }

// have reports whether all consumers of a grant have the tokens that were issued at a time.
func (r *Rollouts) have(grant types.UID, issued time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	known, found := r.known[grant]
	return found && !known.issued.Before(issued)
}

// note takes in that they have, and reports whether that is news.
func (r *Rollouts) note(grant types.UID, issued time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	known, found := r.known[grant]
	if found && !issued.After(known.issued) {
		return false
	}
	known.issued = issued
	r.known[grant] = known
	return true
}

// isNews reports whether a target's problem was not told yet, and notes that it is.
func (r *Rollouts) isNews(grant types.UID, target v1alpha1.RolloutTarget, p rollout.Problem) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	known := r.known[grant]
	if known.told[target] == p {
		return false
	}
	told := map[v1alpha1.RolloutTarget]rollout.Problem{target: p}
	for t, before := range known.told {
		if t != target {
			told[t] = before
		}
	}
	known.told = told
	r.known[grant] = known
	return p != rollout.None
}

func (r *Rollouts) forget(grant types.UID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.known, grant)
}
