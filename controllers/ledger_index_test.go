package controllers

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/mqtt-token-operator/mqtt-token-operator/internal/ledger"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/token"
)

type gaugeOf map[string]int

func (g gaugeOf) SetPendingRevocations(reason string, count int) { g[reason] = count }

// pageAt is a page of so many tokens in a version.
func pageAt(t *testing.T, version string, tokens ...ledger.Entry) pageView {
	t.Helper()
	secret, err := ledger.Page{Grant: "line-a/press-07", GrantUID: "u", Entries: tokens}.Render("system")
	if err != nil {
		t.Fatal(err)
	}
	secret.ResourceVersion = version
	return viewOfPage(&secret.ObjectMeta)
}

func mustGo(text, instance string, why ledger.Why) ledger.Entry {
	return ledger.Entry{Value: token.NewValue(text), Instance: instance, Expires: time.Date(2031, 1, 1, 0, 0, 0, 0, time.UTC), Why: why}
}

// TestTheIndexIsNeverOlderThanOurOwnWrites: the watch tells of things in order, but later than we did them.
func TestTheIndexIsNeverOlderThanOurOwnWrites(t *testing.T) {
	one := []ledger.Entry{mustGo("a", "n/i", ledger.Held)}
	two := []ledger.Entry{one[0], mustGo("b", "n/i", ledger.Deleted)}
	type step struct {
		sentence string
		do       func(*ledgerIndex) bool // whether it told something new
		wantNew  bool
		want     int // tokens on record
	}
	for sentence, steps := range map[string][]step{
		"a write, and the watch that comes after it": {
			{"we write", func(x *ledgerIndex) bool { _, ok := x.seen(pageAt(t, "12", two...)); return ok }, true, 2},
			{"the watch tells of before", func(x *ledgerIndex) bool { _, ok := x.seen(pageAt(t, "11", one...)); return ok }, false, 2},
			{"the watch tells of it", func(x *ledgerIndex) bool { _, ok := x.seen(pageAt(t, "12", two...)); return ok }, false, 2},
			{"the watch tells of another's write", func(x *ledgerIndex) bool { _, ok := x.seen(pageAt(t, "15", one...)); return ok }, true, 1},
		},
		"a deletion, and the watch that comes after it": {
			{"the watch tells of a page", func(x *ledgerIndex) bool { _, ok := x.seen(pageAt(t, "11", one...)); return ok }, true, 1},
			{"we delete it", func(x *ledgerIndex) bool { _, ok := x.deleted("mqtt-ledger-u", "12"); return ok }, true, 0},
			{"the watch tells of our last write", func(x *ledgerIndex) bool { _, ok := x.seen(pageAt(t, "12", two...)); return ok }, false, 0},
			{"the watch tells of the deletion", func(x *ledgerIndex) bool { _, ok := x.vanished("mqtt-ledger-u", "13"); return ok }, true, 0},
			{"a new page", func(x *ledgerIndex) bool { _, ok := x.seen(pageAt(t, "14", one...)); return ok }, true, 1},
		},
		"a deletion, a new page, and the watch that comes after both": {
			{"we write", func(x *ledgerIndex) bool { _, ok := x.seen(pageAt(t, "11", one...)); return ok }, true, 1},
			{"we delete it", func(x *ledgerIndex) bool { _, ok := x.deleted("mqtt-ledger-u", "11"); return ok }, true, 0},
			{"we write a new one", func(x *ledgerIndex) bool { _, ok := x.seen(pageAt(t, "13", two...)); return ok }, true, 2},
			{"the watch tells of the deletion", func(x *ledgerIndex) bool { _, ok := x.vanished("mqtt-ledger-u", "12"); return ok }, false, 2},
			{"we learn late that the old one is gone", func(x *ledgerIndex) bool { _, ok := x.deleted("mqtt-ledger-u", "11"); return ok }, false, 2},
			{"somebody deletes the new one", func(x *ledgerIndex) bool { _, ok := x.vanished("mqtt-ledger-u", "14"); return ok }, true, 0},
		},
		"a page whose facts somebody destroyed keeps them": {
			{"the watch tells of a page", func(x *ledgerIndex) bool { _, ok := x.seen(pageAt(t, "11", two...)); return ok }, true, 2},
			{"the watch tells of the damage", func(x *ledgerIndex) bool {
				_, ok := x.seen(viewOfPage(&metav1.ObjectMeta{Name: "mqtt-ledger-u", ResourceVersion: "12"}))
				return ok
			}, true, 2},
		},
		"a Secret of our type and not of our making": {
			{"the watch tells of it", func(x *ledgerIndex) bool {
				_, ok := x.seen(viewOfPage(&metav1.ObjectMeta{Name: "notes", ResourceVersion: "12"}))
				return ok
			}, false, 0},
			{"and of its end", func(x *ledgerIndex) bool { _, ok := x.vanished("notes", "13"); return ok }, false, 0},
		},
	} {
		t.Run(sentence, func(t *testing.T) {
			index := newLedgerIndex(gaugeOf{})
			for _, s := range steps {
				if got := s.do(index); got != s.wantNew {
					t.Errorf("%s: new %v, want %v", s.sentence, got, s.wantNew)
				}
				if got := index.ofInstance("n/i"); got != s.want {
					t.Errorf("%s: %d tokens on record, want %d", s.sentence, got, s.want)
				}
			}
		})
	}
}

func TestTheIndexSaysWhoseNumbersChanged(t *testing.T) {
	gauge := gaugeOf{}
	index := newLedgerIndex(gauge)
	if len(gauge) != len(ledger.Whys())+1 {
		t.Errorf("%d reasons are shown from the start, want all and another", len(gauge))
	}
	grant := types.NamespacedName{Namespace: "line-a", Name: "press-07"}
	first, second := types.NamespacedName{Namespace: "n", Name: "i"}, types.NamespacedName{Namespace: "n", Name: "j"}
	for _, step := range []struct {
		sentence string
		page     pageView
		want     pageChange
		waiting  map[string]int
	}{
		{
			"a new page", pageAt(t, "1", mustGo("a", "n/i", ledger.Held), mustGo("b", "n/i", "Later")),
			pageChange{page: "mqtt-ledger-u", grant: grant, instances: []types.NamespacedName{first}},
			map[string]int{"Held": 1, "Other": 1},
		},
		{
			"another reason", pageAt(t, "2", mustGo("a", "n/i", ledger.Held), mustGo("b", "n/i", ledger.Deleted)),
			pageChange{page: "mqtt-ledger-u"},
			map[string]int{"Held": 1, "Deleted": 1},
		},
		{
			"another instance", pageAt(t, "3", mustGo("a", "n/i", ledger.Held), mustGo("b", "n/j", ledger.Deleted)),
			pageChange{page: "mqtt-ledger-u", instances: []types.NamespacedName{first, second}},
			map[string]int{"Held": 1, "Deleted": 1},
		},
		{"nothing left", pageAt(t, "4"), pageChange{page: "mqtt-ledger-u", grant: grant, instances: []types.NamespacedName{first, second}}, map[string]int{}},
	} {
		got, _ := index.seen(step.page)
		if diff := cmp.Diff(step.want, got, cmp.AllowUnexported(pageChange{})); diff != "" {
			t.Errorf("%s (-want +got):\n%s", step.sentence, diff)
		}
		waiting := map[string]int{}
		for reason, count := range gauge {
			if count != 0 {
				waiting[reason] = count
			}
		}
		if diff := cmp.Diff(step.waiting, waiting); diff != "" {
			t.Errorf("%s: waiting (-want +got):\n%s", step.sentence, diff)
		}
	}
	if len(index.byInstance) != 0 {
		t.Errorf("instances without tokens are remembered: %v", index.byInstance)
	}
}

// TestANamespaceHasSoManyPages by grants that only its Secrets know of.
func TestANamespaceHasSoManyPages(t *testing.T) {
	pages := &Ledger{index: newLedgerIndex(gaugeOf{}), Namespace: "mqtt-system"}
	grant := func(namespace string, n int) (types.NamespacedName, types.UID) {
		return types.NamespacedName{Namespace: namespace, Name: "press"}, types.UID(fmt.Sprintf("%s-%d", namespace, n))
	}
	for n := range maxOrphanPages {
		name, uid := grant("line-a", n)
		pages.index.seen(pageView{name: ledger.Name(string(uid)), version: "1", facts: ledger.Facts{Grant: name.String(), GrantUID: string(uid)}})
	}
	one := []ledger.Entry{{Value: token.NewValue("one"), Expires: guardStart().Add(time.Hour)}}
	name, uid := grant("line-a", maxOrphanPages)
	if err := pages.enterOrphans(t.Context(), name, uid, one, guardStart()); !errors.Is(err, ledger.ErrFull) {
		t.Errorf("one more page: %v", err)
	}
	if err := pages.enterOrphans(t.Context(), name, uid, nil, guardStart()); err != nil {
		t.Errorf("nothing to enter: %v", err)
	}
	if _, known := grant("line-a", 7); pages.isOfAnother("line-a", known) || !pages.isOfAnother("line-b", known) {
		t.Error("a page is not taken for its namespace's own, or for another's")
	}
}
