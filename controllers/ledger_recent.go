package controllers

import (
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/mqtt-token-operator/mqtt-token-operator/internal/budget"
)

// recentPages is what this process did for each page of the ledger. Nothing in it is needed after a restart: a token that
// is revoked twice is revoked.
type recentPages struct {
	mu    sync.Mutex
	pages map[string]recentPage
}

type recentPage struct {
	attempt // of the page: the service was out of reach

	// revoked holds the fingerprints of tokens that the page lists although they are revoked: its write failed.
	revoked []string
	// count is how many tokens of the page were revoked.
	count int
	// refused holds what the service would not revoke.
	refused map[string]attempt
	// queued is where the page waits for its turn.
	queued *budget.Budget
	// damageTold says that the log has the page's damage.
	damageTold bool
}

func newRecentPages() *recentPages { return &recentPages{pages: map[string]recentPage{}} }

func (r *recentPages) of(name string) recentPage {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.pages[name]
}

// note changes what is remembered of a page. Slices and maps are replaced, never changed in place: of hands them out.
func (r *recentPages) note(name string, change func(*recentPage)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	page := r.pages[name]
	change(&page)
	r.pages[name] = page
}

// forget drops a page that is gone, with its place in a queue.
func (r *recentPages) forget(name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if queued := r.pages[name].queued; queued != nil {
		queued.Done(budget.Revoke, name)
	}
	delete(r.pages, name)
}

func (p *recentPage) succeeded(fingerprint string) {
	p.revoked = append(slices.Clip(p.revoked), fingerprint)
	p.count++
	p.attempt = attempt{}
	p.refused = maps.Clone(p.refused)
	delete(p.refused, fingerprint)
}

func (p *recentPage) refuse(fingerprint string, now time.Time) {
	refused := maps.Clone(p.refused)
	if refused == nil {
		refused = map[string]attempt{}
	}
	refused[fingerprint] = refused[fingerprint].failed(fingerprint, 0, now)
	p.refused = refused
}
