package controllers

import (
	"context"
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/mqtt-token-operator/mqtt-token-operator/api/v1alpha1"
	"github.com/mqtt-token-operator/mqtt-token-operator/test/gen"
)

func guardStart() time.Time { return time.Date(2031, 5, 17, 3, 4, 5, 0, time.UTC) }

// guarded is an instance with grants, each with tokens, as a cache shows them.
type guarded struct {
	client.Reader
	instance *v1alpha1.MqttInstance
	grants   []*v1alpha1.MqttTokenGrant
	guard    *MassGuard
	now      time.Time
	lists    int
	woken    int // how often the grants were
}

func newGuarded(size int) *guarded {
	s := &guarded{now: guardStart(), instance: &v1alpha1.MqttInstance{
		ObjectMeta: metav1.ObjectMeta{Namespace: gen.DefaultNamespace, Name: "factory", UID: "one", Generation: 1},
	}}
	s.allow("*")
	for n := range size {
		grant := gen.Grant(fmt.Sprintf("press-%03d", n))
		grant.Status.Tokens = []v1alpha1.TokenStatus{{Type: "Publish"}}
		grant.Status.Conditions = []metav1.Condition{{Type: v1alpha1.AuthorizedCondition, Status: metav1.ConditionTrue, ObservedGeneration: grant.Generation}}
		s.grants = append(s.grants, grant)
	}
	s.restart()
	return s
}

// restart forgets what a process knows.
func (s *guarded) restart() {
	s.guard = NewMassGuard(s, NewConnections())
	s.guard.wakeGrants = func(types.NamespacedName) { s.woken++ }
}

// allow is an edit of the rules: devices that fit one of the patterns are allowed.
func (s *guarded) allow(patterns ...string) {
	s.instance.Generation++
	s.instance.Spec.AccessRules = []v1alpha1.AccessRule{{
		Namespaces: v1alpha1.RuleNamespaces{From: v1alpha1.NamespacesAll}, GroupIDs: []string{"*"}, DeviceIDs: patterns,
		Topics: []v1alpha1.TopicRule{{Filter: "#", Actions: []v1alpha1.Action{v1alpha1.ActionPublish, v1alpha1.ActionSubscribe}}},
	}}
}

func (s *guarded) confirm() {
	metav1.SetMetaDataAnnotation(&s.instance.ObjectMeta, v1alpha1.ConfirmRevocationAnnotation, strconv.FormatInt(s.instance.Generation, 10))
}

// pass lets each grant ask once, as the grant controller does, and reports how many may lose their tokens. Those do, if
// taken.
func (s *guarded) pass(t *testing.T, taken bool) (proceed int) {
	t.Helper()
	for _, grant := range s.grants {
		key := client.ObjectKeyFromObject(grant)
		if len(grant.Status.Tokens) == 0 || !s.isDenied(t, grant) {
			s.guard.forget(key)
			continue
		}
		verdict, err := s.guard.judge(t.Context(), s.instance, key, true, s.now)
		if err != nil {
			t.Fatal(err)
		}
		if verdict.proceed {
			proceed++
		}
		if verdict.proceed && taken {
			grant.Status.Tokens = nil
		}
	}
	return proceed
}

func (s *guarded) isDenied(t *testing.T, grant *v1alpha1.MqttTokenGrant) bool {
	t.Helper()
	grants, err := s.guard.census(t.Context(), s.instance, newDenials("", false))
	if err != nil {
		t.Fatal(err)
	}
	return grants[client.ObjectKeyFromObject(grant)].denied
}

// List implements client.Reader.
func (s *guarded) List(_ context.Context, list client.ObjectList, _ ...client.ListOption) error {
	s.lists++
	grants, ok := list.(*v1alpha1.MqttTokenGrantList)
	if !ok {
		return fmt.Errorf("listing %T", list)
	}
	for _, grant := range s.grants {
		grants.Items = append(grants.Items, *grant)
	}
	return nil
}

// Get implements client.Reader.
func (s *guarded) Get(context.Context, client.ObjectKey, client.Object, ...client.GetOption) error {
	return nil
}

// settle lets the denials that stand settle.
func (s *guarded) settle(t *testing.T) {
	t.Helper()
	s.pass(t, false)
	s.now = s.now.Add(settling)
}

func (s *guarded) holding(t *testing.T) (massCount, bool) {
	t.Helper()
	count, held, err := s.guard.holding(t.Context(), s.instance, s.now)
	if err != nil {
		t.Fatal(err)
	}
	return count, held
}

func TestWhatIsAMassRevocation(t *testing.T) {
	for sentence, tc := range map[string]struct {
		count massCount
		want  bool
	}{
		"nobody is nobody":                     {massCount{0, 0}, false},
		"twenty may go, whatever the fleet is": {massCount{20, 20}, false},
		"the twenty-first of few may not":      {massCount{21, 21}, true},
		"a tenth of many may go":               {massCount{1000, 10_000}, false},
		"more than a tenth of many may not":    {massCount{1001, 10_000}, true},
		"a tenth is not rounded down":          {massCount{21, 209}, true},
		"twenty count more than a tenth":       {massCount{20, 150}, false},
	} {
		t.Run(sentence, func(t *testing.T) {
			if got := tc.count.isMass(); got != tc.want {
				t.Errorf("%d of %d: %v, want %v", tc.count.denied, tc.count.total, got, tc.want)
			}
		})
	}
}

// TestWeighing goes through what may become of an instance's grants, one round after the other.
func TestWeighing(t *testing.T) {
	name := func(n int) types.NamespacedName { return types.NamespacedName{Name: strconv.Itoa(n)} }
	// of makes a fleet of grants: those from first to below last are denied, those below first have lost their tokens.
	of := func(first, last, size int) fleet {
		grants := fleet{}
		for n := first; n < size; n++ {
			grants[name(n)] = standing{denied: n < last, byRules: n < last}
		}
		return grants
	}
	type round struct {
		after    time.Duration
		grants   fleet
		let      int // how many of the first are let through afterwards
		want     massCount
		wantHeld bool
	}
	for sentence, tc := range map[string]struct {
		inherited bool
		rounds    []round
	}{
		"a few go, however long each of them takes": {rounds: []round{
			{grants: of(0, 15, 30), let: 15, want: massCount{15, 30}},
			{after: time.Minute, grants: of(0, 15, 30), let: 15, want: massCount{15, 30}},
			{after: time.Minute, grants: of(10, 15, 30), want: massCount{15, 30}},
		}},
		"what comes in portions is one change": {rounds: []round{
			{grants: of(0, 15, 60), let: 15, want: massCount{15, 60}},
			{after: time.Minute, grants: of(15, 30, 60), want: massCount{30, 60}, wantHeld: true},
		}},
		"and it does not go on when the hour is over": {rounds: []round{
			{grants: of(0, 15, 60), let: 15, want: massCount{15, 60}},
			{after: time.Minute, grants: of(15, 30, 60), want: massCount{30, 60}, wantHeld: true},
			{after: 2 * time.Hour, grants: of(15, 30, 60), want: massCount{30, 60}, wantHeld: true},
		}},
		"another change an hour later counts for itself": {rounds: []round{
			{grants: of(0, 15, 60), let: 15, want: massCount{15, 60}},
			{after: 61 * time.Minute, grants: of(15, 30, 60), want: massCount{15, 45}},
		}},
		"what has its access back counts no more": {rounds: []round{
			{grants: of(0, 15, 60), let: 15, want: massCount{15, 60}},
			{after: time.Minute, grants: of(0, 0, 60), want: massCount{0, 60}},
			{after: time.Minute, grants: of(0, 15, 60), want: massCount{15, 60}},
		}},
		"a mistake that is undone lets the others through": {rounds: []round{
			{grants: of(0, 30, 60), want: massCount{30, 60}, wantHeld: true},
			{after: time.Minute, grants: of(0, 1, 60), want: massCount{1, 60}},
		}},
		"what an earlier process held stays held": {inherited: true, rounds: []round{
			{grants: of(0, 5, 60), want: massCount{5, 60}, wantHeld: true},
			{after: 2 * time.Hour, grants: of(0, 5, 60), want: massCount{5, 60}, wantHeld: true},
			{after: time.Minute, grants: of(0, 0, 60), want: massCount{0, 60}},
			{after: time.Minute, grants: of(0, 5, 60), want: massCount{5, 60}},
		}},
	} {
		t.Run(sentence, func(t *testing.T) {
			now, d := guardStart(), newDenials("one", tc.inherited)
			for i, r := range tc.rounds {
				now = now.Add(r.after)
				d.weigh(r.grants, now)
				if d.count != r.want || d.held != r.wantHeld {
					t.Errorf("round %d: %+v, held: %v; want %+v, %v", i+1, d.count, d.held, r.want, r.wantHeld)
				}
				for n := range r.let {
					d.withdrawn[name(n)] = now
				}
			}
		})
	}
}

func TestADenialMustSettle(t *testing.T) {
	s := newGuarded(3)
	s.allow("nobody")
	key := client.ObjectKeyFromObject(s.grants[0])
	var got []guardVerdict
	for _, after := range []time.Duration{0, 4 * time.Second, 6 * time.Second} {
		s.now = s.now.Add(after)
		verdict, err := s.guard.judge(t.Context(), s.instance, key, true, s.now)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, verdict)
	}
	want := []guardVerdict{{wait: 10 * time.Second}, {wait: 6 * time.Second}, {proceed: true}}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(guardVerdict{})); diff != "" {
		t.Error(diff)
	}
}

func TestAMistakeTakesNothingUntilItIsConfirmed(t *testing.T) {
	s := newGuarded(30)
	s.allow("nobody")
	s.settle(t)
	if n := s.pass(t, true); n != 0 {
		t.Fatalf("%d of 30 may go", n)
	}
	if count, held := s.holding(t); !held || count != (massCount{30, 30}) {
		t.Errorf("held: %v, %+v", held, count)
	}
	s.confirm()
	if _, held := s.holding(t); held || s.woken != 1 {
		t.Errorf("held after it was confirmed: %v; the grants were woken %d times", held, s.woken)
	}
	if n := s.pass(t, true); n != 30 {
		t.Errorf("%d of 30 may go after it was confirmed", n)
	}
}

// TestWhatWasConfirmedDoesNotBlockTheNextChange, nor does it let that one through.
func TestWhatWasConfirmedDoesNotBlockTheNextChange(t *testing.T) {
	for sentence, tc := range map[string]struct {
		allowed []string
		want    int
	}{
		"ten more go":     {[]string{"press-04*", "press-05*", "press-06*", "press-07*"}, 10},
		"forty more wait": {[]string{"press-07*"}, 0},
	} {
		t.Run(sentence, func(t *testing.T) {
			s := newGuarded(80)
			s.allow("press-03*", "press-04*", "press-05*", "press-06*", "press-07*")
			s.settle(t)
			s.confirm()
			if n := s.pass(t, true); n != 30 {
				t.Fatalf("%d may go, want the thirty that were confirmed", n)
			}
			s.allow(tc.allowed...)
			s.settle(t)
			if n := s.pass(t, true); n != tc.want {
				t.Errorf("%d may go, want %d", n, tc.want)
			}
		})
	}
}

func TestUndoneWakesWhoIsStillDenied(t *testing.T) {
	s := newGuarded(30)
	s.allow("nobody")
	s.settle(t)
	s.pass(t, true)
	s.allow("press-02*") // the first twenty stay denied, for good reason
	s.now = s.now.Add(countLasts)
	if count, held := s.holding(t); held || count.denied != 20 || s.woken != 1 {
		t.Errorf("held: %v, %+v; the grants were woken %d times", held, count, s.woken)
	}
	if n := s.pass(t, true); n != 20 {
		t.Errorf("%d may go, want 20", n)
	}
}

func TestARestartGoesOnHolding(t *testing.T) {
	s := newGuarded(30)
	s.allow("press-01*") // twenty are denied: few enough, did the last process not know better
	s.instance.Status.Conditions = []metav1.Condition{{Type: v1alpha1.MassRevocationHeldCondition, Status: metav1.ConditionTrue}}
	if _, held := s.holding(t); !held {
		t.Error("the condition would go with the restart")
	}
	s.settle(t)
	if n := s.pass(t, true); n != 0 {
		t.Errorf("%d may go", n)
	}
	s.restart()
	s.allow("*")
	if _, held := s.holding(t); held {
		t.Error("held although nothing is denied")
	}
}

func TestARecreatedInstanceStartsAnew(t *testing.T) {
	s := newGuarded(30)
	s.allow("nobody")
	s.settle(t)
	s.pass(t, true)
	s.instance.UID = "two"
	if verdict, err := s.guard.judge(t.Context(), s.instance, client.ObjectKeyFromObject(s.grants[0]), true, s.now); err != nil || verdict.wait != settling {
		t.Errorf("%+v, %v", verdict, err)
	}
}

func TestManyDeniedShareOneCount(t *testing.T) {
	s := newGuarded(100)
	s.allow("nobody")
	for range 2 {
		s.lists = 0
		for _, grant := range s.grants {
			if _, err := s.guard.judge(t.Context(), s.instance, client.ObjectKeyFromObject(grant), true, s.now); err != nil {
				t.Fatal(err)
			}
		}
		s.now = s.now.Add(settling)
	}
	if s.lists != 1 {
		t.Errorf("%d passes over the fleet for 100 grants", s.lists)
	}
}

// TestWhatOwnersGiveAwayIsNoMistake of the platform's: it must not keep a real denial waiting.
func TestWhatOwnersGiveAwayIsNoMistake(t *testing.T) {
	for sentence, own := range map[string]func(*testing.T, *guarded, *v1alpha1.MqttTokenGrant){
		"specs that ask for what was never allowed": func(_ *testing.T, _ *guarded, g *v1alpha1.MqttTokenGrant) { g.Generation++ },
		"such specs, once the status says so": func(_ *testing.T, _ *guarded, g *v1alpha1.MqttTokenGrant) {
			g.Generation++
			g.Status.Conditions[0].Status, g.Status.Conditions[0].ObservedGeneration = metav1.ConditionFalse, g.Generation
		},
		"Secrets that somebody tampered with": func(t *testing.T, s *guarded, g *v1alpha1.MqttTokenGrant) {
			t.Helper()
			if _, err := s.guard.judge(t.Context(), s.instance, client.ObjectKeyFromObject(g), false, s.now); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(sentence, func(t *testing.T) {
			s := newGuarded(200)
			s.allow("press-*")
			for _, g := range s.grants[:50] {
				g.Spec.Client.DeviceID = "greedy"
				own(t, s, g)
			}
			denied := s.grants[150]
			denied.Spec.Client.DeviceID = "gone"
			for range 2 {
				verdict, err := s.guard.judge(t.Context(), s.instance, client.ObjectKeyFromObject(denied), true, s.now)
				if err != nil || verdict.proceed == (verdict.wait > 0) {
					t.Errorf("one real denial is held back: %+v, %v", verdict, err)
				}
				s.now = s.now.Add(settling)
			}
		})
	}
}
