package controllers

import (
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/resourceversion"

	"github.com/mqtt-token-operator/mqtt-token-operator/internal/ledger"
)

// PendingGauge shows how many tokens wait to be revoked, by the reason why they must go.
type PendingGauge interface {
	SetPendingRevocations(reason string, count int)
}

// otherReason stands for the reasons of later versions, so that the gauge's labels are a fixed set.
const otherReason = "Other"

// ledgerIndex is what the pages of the ledger say, by the watch or by our own last writes, whichever is newer. It is safe
// for concurrent use.
type ledgerIndex struct {
	gauge PendingGauge

	mu         sync.Mutex
	pages      map[string]pageView // by the Secret's name
	byInstance map[string]int      // tokens
	byReason   map[string]int
	// revoked holds, by page, what was revoked from it and when that would have ended: a Secret that cannot be written goes
	// on offering it, and must not have it entered again. It ends with the grant.
	revoked map[string]map[string]time.Time
}

// noteRevoked remembers a token that was revoked until it would have ended.
func (x *ledgerIndex) noteRevoked(page, fingerprint string, expires, now time.Time) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.revoked[page] == nil {
		x.revoked[page] = map[string]time.Time{}
	}
	maps.DeleteFunc(x.revoked[page], func(_ string, end time.Time) bool { return !end.After(now) })
	x.revoked[page][fingerprint] = expires
}

// forgetRevoked ends the memory of a grant that is gone: no Secret of its offers anything.
func (x *ledgerIndex) forgetRevoked(page string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	delete(x.revoked, page)
}

func (x *ledgerIndex) isRevoked(page, fingerprint string) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	_, found := x.revoked[page][fingerprint]
	return found
}

// isDoomed reports whether a token was revoked from the page or is about to be.
func (x *ledgerIndex) isDoomed(page, fingerprint string) bool {
	view, _ := x.of(page)
	return x.isRevoked(page, fingerprint) || slices.ContainsFunc(view.facts.Entries, func(e ledger.EntryFacts) bool { return e.Fingerprint == fingerprint })
}

// pageView is a page as its metadata shows it.
type pageView struct {
	name    string
	version string
	facts   ledger.Facts
	// damaged says that the facts cannot be read. Those of before are kept, if there were any.
	damaged bool
	// gone says that we deleted the page, and the watch may not have told of it yet.
	gone bool
}

// pageChange is what a newer view of a page changed.
type pageChange struct {
	page      string
	grant     types.NamespacedName   // whose number of tokens it changed; none if zero
	instances []types.NamespacedName // whose number of tokens it changed
}

func newLedgerIndex(gauge PendingGauge) *ledgerIndex {
	x := &ledgerIndex{gauge: gauge, pages: map[string]pageView{}, byInstance: map[string]int{}, byReason: map[string]int{}, revoked: map[string]map[string]time.Time{}}
	for _, why := range ledger.Whys() {
		gauge.SetPendingRevocations(string(why), 0)
	}
	gauge.SetPendingRevocations(otherReason, 0)
	return x
}

func viewOfPage(meta *metav1.ObjectMeta) pageView {
	facts, err := ledger.ReadFacts(meta)
	return pageView{name: meta.Name, version: meta.ResourceVersion, facts: facts, damaged: err != nil}
}

// of returns a page that exists.
func (x *ledgerIndex) of(name string) (pageView, bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	view, found := x.pages[name]
	return view, found && !view.gone
}

// pagesOf counts the pages of a namespace's grants.
func (x *ledgerIndex) pagesOf(namespace string) (count int) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, view := range x.pages {
		if !view.gone && nameOf(view.facts.Grant).Namespace == namespace {
			count++
		}
	}
	return count
}

// names lists the pages that hold tokens of an instance, or all of them.
func (x *ledgerIndex) names(instance string) []string {
	x.mu.Lock()
	defer x.mu.Unlock()
	var names []string
	for name, view := range x.pages {
		if instance == "" || slices.ContainsFunc(view.facts.Entries, func(e ledger.EntryFacts) bool { return e.Instance == instance }) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

func (x *ledgerIndex) ofInstance(instance string) int {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.byInstance[instance]
}

// seen takes in a view of a page; ok is false if it is not newer than what is known.
func (x *ledgerIndex) seen(view pageView) (change pageChange, ok bool) {
	if ledger.GrantUIDOf(view.name) == "" {
		return pageChange{}, false // of our type and not ours
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	before := x.pages[view.name]
	if before.version != "" && compareVersions(view.version, before.version) <= 0 {
		return pageChange{}, false
	}
	if view.damaged {
		view.facts = before.facts
	}
	x.pages[view.name] = view
	return x.count(view.name, before.facts, view.facts), true
}

// deleted takes in that we deleted the page in the given version. What the watch still tells of it is ignored.
func (x *ledgerIndex) deleted(name, version string) (change pageChange, ok bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	before, found := x.pages[name]
	if !found || compareVersions(version, before.version) < 0 {
		return pageChange{}, false
	}
	x.pages[name] = pageView{name: name, version: version, gone: true}
	return x.count(name, before.facts, ledger.Facts{}), true
}

// vanished takes in that the watch told of a deletion.
func (x *ledgerIndex) vanished(name, version string) (change pageChange, ok bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	before, found := x.pages[name]
	if !found || compareVersions(version, before.version) < 0 {
		return pageChange{}, false // it has been made anew since
	}
	delete(x.pages, name)
	return x.count(name, before.facts, ledger.Facts{}), true
}

// count brings the sums up to date. The caller holds the lock.
func (x *ledgerIndex) count(page string, before, after ledger.Facts) pageChange {
	changed := pageChange{page: page}
	instances, reasons := map[string]int{}, map[string]int{}
	for sign, facts := range map[int]ledger.Facts{-1: before, 1: after} {
		for _, e := range facts.Entries {
			instances[e.Instance] += sign
			reasons[reasonOf(e.Why)] += sign
		}
	}
	for _, instance := range slices.Sorted(maps.Keys(instances)) {
		if instances[instance] == 0 {
			continue
		}
		if x.byInstance[instance] += instances[instance]; x.byInstance[instance] == 0 {
			delete(x.byInstance, instance)
		}
		changed.instances = append(changed.instances, nameOf(instance))
	}
	for reason, difference := range reasons {
		x.byReason[reason] += difference
		x.gauge.SetPendingRevocations(reason, x.byReason[reason])
	}
	if len(before.Entries) != len(after.Entries) {
		changed.grant = nameOf(before.Grant)
		if after.Grant != "" {
			changed.grant = nameOf(after.Grant)
		}
	}
	return changed
}

func reasonOf(why ledger.Why) string {
	if slices.Contains(ledger.Whys(), why) {
		return string(why)
	}
	return otherReason
}

// nameOf reads namespace/name.
func nameOf(text string) types.NamespacedName {
	namespace, name, _ := strings.Cut(text, "/")
	return types.NamespacedName{Namespace: namespace, Name: name}
}

// compareVersions orders two resource versions. Those that cannot be compared count as in the order of their arrival.
func compareVersions(version, known string) int {
	order, err := resourceversion.CompareResourceVersion(version, known)
	if err != nil {
		return 1
	}
	return order
}
