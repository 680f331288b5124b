package state_test

import (
	"encoding/base64"
	"errors"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	testclock "k8s.io/utils/clock/testing"

	"github.com/mqtt-token-operator/mqtt-token-operator/internal/simulator/state"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/token"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/topic"
)

var (
	start = time.Date(2031, 3, 5, 7, 11, 13, 0, time.UTC)
	owner = state.Caller{KeyID: "key-a", InstanceID: "post-cn-a"}
)

func open(t *testing.T, modify ...func(*state.Options)) (*state.State, *testclock.FakePassiveClock) {
	t.Helper()
	clock := testclock.NewFakePassiveClock(start)
	options := state.Options{
		Clock: clock,
		Accounts: []state.Account{
			{ID: "a", Keys: []state.Key{{ID: "key-a", Secret: token.NewValue("s")}, {ID: "key-a2", Secret: token.NewValue("s")}}},
			{ID: "b", Keys: []state.Key{{ID: "key-b", Secret: token.NewValue("s")}}},
		},
		Instances: []state.Instance{
			{ID: "post-cn-a", Region: "cn-hangzhou", Account: "a"},
			{ID: "post-cn-parents", Region: "cn-hangzhou", Account: "a", Topics: []string{"factory"}},
		},
	}
	for _, m := range modify {
		m(&options)
	}
	s, err := state.New(options)
	if err != nil {
		t.Fatal(err)
	}
	return s, clock
}

func strictOrder(o *state.Options) { o.Switches.StrictOrder = true }

func numbered(n int) string {
	names := make([]string, n)
	for i := range names {
		names[i] = "t/" + strconv.Itoa(i)
	}
	return strings.Join(names, ",")
}

func codeOf(err error) string {
	if refusal, is := errors.AsType[*state.Error](err); is {
		return refusal.Code
	}
	return ""
}

func TestApply(t *testing.T) {
	month := 30 * 24 * time.Hour
	parents := state.Caller{KeyID: "key-a", InstanceID: "post-cn-parents"}
	for sentence, tc := range map[string]struct {
		modify             func(*state.Options)
		caller             state.Caller
		actions, resources string
		validity           time.Duration
		wantCode           string
		wantType           token.Type
		wantTopics         []string
		wantValidity       time.Duration
	}{
		"R subscribes":                       {actions: "R", resources: "a/b", validity: time.Hour, wantType: token.Subscribe, wantTopics: []string{"a/b"}, wantValidity: time.Hour},
		"W publishes":                        {actions: "W", resources: "a/b", validity: time.Hour, wantType: token.Publish, wantTopics: []string{"a/b"}, wantValidity: time.Hour},
		"R,W does both":                      {actions: "R,W", resources: "a/b", validity: time.Hour, wantType: token.PublishSubscribe, wantTopics: []string{"a/b"}, wantValidity: time.Hour},
		"a comma buys a second topic":        {actions: "R", resources: "a,secret/#", validity: time.Hour, wantType: token.Subscribe, wantTopics: []string{"a", "secret/#"}, wantValidity: time.Hour},
		"unsorted topics are taken":          {actions: "R", resources: "b,a", validity: time.Hour, wantType: token.Subscribe, wantTopics: []string{"b", "a"}, wantValidity: time.Hour},
		"a minute is enough":                 {actions: "R", resources: "a", validity: time.Minute, wantType: token.Subscribe, wantTopics: []string{"a"}, wantValidity: time.Minute},
		"less than a minute is not":          {actions: "R", resources: "a", validity: time.Minute - time.Millisecond, wantCode: "ParameterCheckFailed"},
		"thirty days are the most":           {actions: "R", resources: "a", validity: 2 * month, wantType: token.Subscribe, wantTopics: []string{"a"}, wantValidity: month},
		"RW is not an action":                {actions: "RW", resources: "a", validity: time.Hour, wantCode: "ParameterCheckFailed"},
		"no action":                          {resources: "a", validity: time.Hour, wantCode: "ParameterCheckFailed"},
		"no topic":                           {actions: "R", validity: time.Hour, wantCode: "ParameterCheckFailed"},
		"an empty topic among others":        {actions: "R", resources: "a,,b", validity: time.Hour, wantCode: "ParameterCheckFailed"},
		"a topic that is no filter":          {actions: "R", resources: "a/#/b", validity: time.Hour, wantCode: "ParameterCheckFailed"},
		"more than a hundred topics":         {actions: "R", resources: numbered(101), validity: time.Hour, wantCode: "ParameterCheckFailed"},
		"another account's instance":         {caller: state.Caller{KeyID: "key-b", InstanceID: "post-cn-a"}, actions: "R", resources: "a", validity: time.Hour, wantCode: "InstancePermissionCheckFailed"},
		"an instance that does not exist":    {caller: state.Caller{KeyID: "key-a", InstanceID: "post-cn-x"}, actions: "R", resources: "a", validity: time.Hour, wantCode: "InstancePermissionCheckFailed"},
		"a parent topic that exists":         {caller: parents, actions: "R", resources: "factory/#", validity: time.Hour, wantType: token.Subscribe, wantTopics: []string{"factory/#"}, wantValidity: time.Hour},
		"a parent topic that does not":       {caller: parents, actions: "R", resources: "factory/a,office/a", validity: time.Hour, wantCode: "PermissionCheckFailed"},
		"strict order refuses unsorted ones": {modify: strictOrder, actions: "R", resources: "b,a", validity: time.Hour, wantCode: "ParameterCheckFailed"},
		"strict order refuses repeated ones": {modify: strictOrder, actions: "R", resources: "a,a", validity: time.Hour, wantCode: "ParameterCheckFailed"},
		"strict order takes sorted ones":     {modify: strictOrder, actions: "R", resources: "a,b", validity: time.Hour, wantType: token.Subscribe, wantTopics: []string{"a", "b"}, wantValidity: time.Hour},
	} {
		t.Run(sentence, func(t *testing.T) {
			if tc.modify == nil {
				tc.modify = func(*state.Options) {}
			}
			if tc.caller == (state.Caller{}) {
				tc.caller = owner
			}
			s, _ := open(t, tc.modify)
			text, err := s.Apply(tc.caller, state.Request{Actions: tc.actions, Resources: tc.resources, Expires: start.Add(tc.validity)})
			if got := codeOf(err); got != tc.wantCode || (err == nil) != (tc.wantCode == "") {
				t.Fatalf("got %v, want %q", err, tc.wantCode)
			}
			if tc.wantCode != "" {
				return
			}
			want := state.Token{
				ID: state.IDOf(text), AccountID: "a", KeyID: tc.caller.KeyID, InstanceID: tc.caller.InstanceID,
				Type: tc.wantType, Topics: tc.wantTopics, Issued: start, Expires: start.Add(tc.wantValidity),
			}
			got, validity := s.Resolve(text)
			if diff := cmp.Diff(want, got, cmpopts.IgnoreUnexported(state.Token{})); diff != "" || validity != state.Valid {
				t.Errorf("%s %s", validity, diff)
			}
		})
	}
}

func issue(t *testing.T, s *state.State) token.Value {
	t.Helper()
	text, err := s.Apply(owner, state.Request{Actions: "R,W", Resources: "a/#", Expires: s.Now().Add(time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestTextsLookLikeTheServices(t *testing.T) {
	s, _ := open(t)
	one, other := issue(t, s).Reveal(), issue(t, s).Reveal()
	if one == other {
		t.Error("two calls made the same token")
	}
	if _, err := base64.StdEncoding.DecodeString(one); err != nil || len(one) != 344 || !strings.HasSuffix(one, "=") {
		t.Errorf("%d characters, %v", len(one), err)
	}
}

func TestValidity(t *testing.T) {
	for sentence, tc := range map[string]struct {
		modify       func(*state.Options)
		act          func(*testing.T, *state.State, *testclock.FakePassiveClock, token.Value)
		wantValid    bool
		wantAtBroker state.Validity
		wantChanges  int
	}{
		"a fresh token": {
			act:       func(*testing.T, *state.State, *testclock.FakePassiveClock, token.Value) {},
			wantValid: true, wantAtBroker: state.Valid,
		},
		"the injected clock reaches the expiry": {
			act: func(_ *testing.T, _ *state.State, clock *testclock.FakePassiveClock, _ token.Value) {
				clock.SetTime(start.Add(time.Hour))
			},
			wantAtBroker: state.Expired,
		},
		"the clock is advanced past the expiry": {
			act: func(t *testing.T, s *state.State, _ *testclock.FakePassiveClock, _ token.Value) {
				if err := s.Advance(time.Hour); err != nil {
					t.Error(err)
				}
			},
			wantAtBroker: state.Expired, wantChanges: 1,
		},
		"the service's clock is ahead": {
			act: func(_ *testing.T, s *state.State, _ *testclock.FakePassiveClock, _ token.Value) {
				s.SetSkew(time.Hour)
				s.SetSkew(time.Hour)
			},
			wantAtBroker: state.Expired, wantChanges: 1,
		},
		"the service's clock jumps past the expiry and back": {
			act: func(_ *testing.T, s *state.State, _ *testclock.FakePassiveClock, _ token.Value) {
				s.SetSkew(2 * time.Hour)
				s.SetSkew(-10 * time.Minute)
			},
			wantValid: true, wantAtBroker: state.Valid, wantChanges: 2,
		},
		"a jump back does not undo a revocation": {
			act: func(_ *testing.T, s *state.State, _ *testclock.FakePassiveClock, text token.Value) {
				s.SetSkew(10 * time.Minute)
				s.RevokeByID(state.IDOf(text))
				s.SetSkew(-10 * time.Minute)
			},
			wantAtBroker: state.Revoked, wantChanges: 3,
		},
		"a jump forward does not hurry the news of a revocation": {
			modify: func(o *state.Options) { o.Switches.RevocationDelay = time.Second },
			act: func(_ *testing.T, s *state.State, _ *testclock.FakePassiveClock, text token.Value) {
				s.RevokeByID(state.IDOf(text))
				s.SetSkew(10 * time.Minute)
			},
			wantAtBroker: state.Valid, wantChanges: 2,
		},
		"the owner revokes": {
			act: func(t *testing.T, s *state.State, _ *testclock.FakePassiveClock, text token.Value) {
				for range 2 {
					if err := s.Revoke(owner, text); err != nil {
						t.Error(err)
					}
				}
			},
			wantAtBroker: state.Revoked, wantChanges: 2,
		},
		"somebody revokes behind the owner's back": {
			act: func(t *testing.T, s *state.State, _ *testclock.FakePassiveClock, text token.Value) {
				if !s.RevokeByID(state.IDOf(text)) || s.RevokeByID("no such id") {
					t.Error("the id decides")
				}
			},
			wantAtBroker: state.Revoked, wantChanges: 1,
		},
		"the broker has not heard of the revocation yet": {
			modify: func(o *state.Options) { o.Switches.RevocationDelay = time.Second },
			act: func(_ *testing.T, s *state.State, _ *testclock.FakePassiveClock, text token.Value) {
				s.RevokeByID(state.IDOf(text))
			},
			wantAtBroker: state.Valid, wantChanges: 1,
		},
		"the broker has heard of the revocation": {
			modify: func(o *state.Options) { o.Switches.RevocationDelay = time.Second },
			act: func(_ *testing.T, s *state.State, clock *testclock.FakePassiveClock, text token.Value) {
				s.RevokeByID(state.IDOf(text))
				clock.SetTime(start.Add(time.Second))
			},
			wantAtBroker: state.Revoked, wantChanges: 1,
		},
	} {
		t.Run(sentence, func(t *testing.T) {
			if tc.modify == nil {
				tc.modify = func(*state.Options) {}
			}
			s, clock := open(t, tc.modify)
			changes := 0
			s.OnChange(func() { changes++ })
			text := issue(t, s)
			tc.act(t, s, clock, text)
			valid, err := s.Query(owner, text)
			if err != nil || valid != tc.wantValid {
				t.Errorf("Query says %v, %v", valid, err)
			}
			if _, got := s.Resolve(text); got != tc.wantAtBroker {
				t.Errorf("the broker sees %s, want %s", got, tc.wantAtBroker)
			}
			if changes != tc.wantChanges {
				t.Errorf("%d notifications, want %d", changes, tc.wantChanges)
			}
		})
	}
}

func TestAdvanceOnlyMovesForward(t *testing.T) {
	s, _ := open(t)
	if err := s.Advance(0); err == nil || !s.Now().Equal(start) {
		t.Error("moved")
	}
}

func TestUnknownTokens(t *testing.T) {
	s, _ := open(t)
	stranger := token.NewValue("stranger")
	if valid, err := s.Query(owner, stranger); valid || err != nil {
		t.Errorf("Query: %v, %v", valid, err)
	}
	if err := s.Revoke(owner, stranger); err != nil {
		t.Errorf("Revoke: %v", err)
	}
	if _, validity := s.Resolve(stranger); validity != state.Unknown {
		t.Errorf("Resolve: %s", validity)
	}
	strict, _ := open(t, func(o *state.Options) { o.Switches.StrictRevoke = true })
	if err := strict.Revoke(owner, stranger); codeOf(err) != "ParameterCheckFailed" {
		t.Errorf("strict Revoke: %v", err)
	}
	elsewhere := state.Caller{KeyID: "key-a", InstanceID: "post-cn-parents"}
	if valid, err := s.Query(elsewhere, issue(t, s)); valid || err != nil {
		t.Errorf("another instance's token: %v, %v", valid, err)
	}
}

func TestRevocationsCountsTheCallsForAToken(t *testing.T) {
	elsewhere := state.Caller{KeyID: "key-a", InstanceID: "post-cn-parents"}
	for sentence, tc := range map[string]struct {
		callers []state.Caller
		behind  bool
		want    int
	}{
		"no call":                         {},
		"one call":                        {callers: []state.Caller{owner}, want: 1},
		"a call that was needless, too":   {callers: []state.Caller{owner, owner}, want: 2},
		"none over another instance":      {callers: []state.Caller{elsewhere}},
		"none that the service refuses":   {callers: []state.Caller{{KeyID: "key-b", InstanceID: "post-cn-a"}}},
		"nothing behind the owner's back": {behind: true},
	} {
		t.Run(sentence, func(t *testing.T) {
			s, _ := open(t)
			text := issue(t, s)
			for _, caller := range tc.callers {
				_ = s.Revoke(caller, text)
			}
			if tc.behind {
				s.RevokeByID(state.IDOf(text))
			}
			held, _ := s.Resolve(text)
			if diff := cmp.Diff(tc.want, held.Revocations); diff != "" {
				t.Errorf("revocations (-want +got):\n%s", diff)
			}
		})
	}
}

func TestQuotasArePerAccountOperationAndSecond(t *testing.T) {
	s, clock := open(t, func(o *state.Options) {
		o.Quotas = state.Quotas{Query: 2, Revoke: 1}
		o.Instances = append(o.Instances, state.Instance{ID: "post-cn-b", Account: "b"})
	})
	text := issue(t, s)
	query := func(caller state.Caller) string {
		_, err := s.Query(caller, text)
		return codeOf(err)
	}
	got := []string{query(owner), query(owner), query(owner), query(state.Caller{KeyID: "key-b", InstanceID: "post-cn-b"})}
	got = append(got, codeOf(s.Revoke(owner, text)), codeOf(s.Revoke(owner, text)))
	clock.SetTime(start.Add(time.Second))
	got = append(got, query(owner))
	want := []string{"", "", "QueryTokenOverFlow", "", "", "RevokeTokenOverFlow", ""}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestMayCarry(t *testing.T) {
	for sentence, tc := range map[string]struct {
		issuerOnly bool
		key        string
		want       bool
	}{
		"the issuer":                                    {key: "key-a", want: true},
		"another key of the account":                    {key: "key-a2", want: true},
		"a key of another account":                      {key: "key-b"},
		"an unknown key":                                {key: "nobody"},
		"the issuer where only it counts":               {issuerOnly: true, key: "key-a", want: true},
		"another key where only the issuer's id counts": {issuerOnly: true, key: "key-a2"},
	} {
		t.Run(sentence, func(t *testing.T) {
			s, _ := open(t, func(o *state.Options) { o.Switches.IssuerKeyOnly = tc.issuerOnly })
			held, _ := s.Resolve(issue(t, s))
			if got := s.MayCarry(tc.key, held); got != tc.want {
				t.Errorf("got %v", got)
			}
		})
	}
}

func TestTokensListsWithoutTheText(t *testing.T) {
	s, clock := open(t)
	first := issue(t, s)
	clock.SetTime(start.Add(time.Second))
	second := issue(t, s)
	var got []string
	for _, held := range s.Tokens() {
		got = append(got, held.ID)
		if !held.Matches("a/b") || held.Matches("b") || !held.Covers(topic.MustParse("a/+")) || held.Covers(topic.MustParse("#")) {
			t.Error("the topics are lost")
		}
	}
	if diff := cmp.Diff([]string{state.IDOf(first), state.IDOf(second)}, got); diff != "" {
		t.Error(diff)
	}
}

func TestNewRefuses(t *testing.T) {
	key := state.Key{ID: "k", Secret: token.NewValue("s")}
	for sentence, options := range map[string]state.Options{
		"an account without an id": {Accounts: []state.Account{{}}},
		"an account twice":         {Accounts: []state.Account{{ID: "a"}, {ID: "a"}}},
		"a key of two accounts":    {Accounts: []state.Account{{ID: "a", Keys: []state.Key{key}}, {ID: "b", Keys: []state.Key{key}}}},
		"a key without a secret":   {Accounts: []state.Account{{ID: "a", Keys: []state.Key{{ID: "k"}}}}},
		"an instance of nobody":    {Instances: []state.Instance{{ID: "i", Account: "a"}}},
		"an instance twice":        {Accounts: []state.Account{{ID: "a"}}, Instances: []state.Instance{{ID: "i", Account: "a"}, {ID: "i", Account: "a"}}},
	} {
		t.Run(sentence, func(t *testing.T) {
			if _, err := state.New(options); err == nil {
				t.Error("accepted")
			}
		})
	}
}
