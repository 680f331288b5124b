package tokenfake_test

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	clocktesting "k8s.io/utils/clock/testing"

	"github.com/mqtt-token-operator/mqtt-token-operator/internal/token"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/token/tokenfake"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/token/tokentest"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/topic"
)

func start() time.Time { return time.Date(2031, 2, 28, 23, 59, 58, 0, time.UTC) }

func scope() token.Scope {
	return token.Scope{Type: token.Publish, Topics: []topic.Filter{topic.MustParse("a")}}
}

func TestFakeConforms(t *testing.T) {
	tokentest.Run(t, func(t *testing.T) tokentest.Subject {
		t.Helper()
		clock := clocktesting.NewFakeClock(start())
		fake, dates := tokenfake.New(clock.Now), &tokentest.Dates{}
		fake.SetSkew(-10*time.Minute + 300*time.Millisecond)
		service, err := fake.Dialer()(token.Connection{OnDate: dates.Note})
		if err != nil {
			t.Fatal(err)
		}
		return tokentest.Subject{
			Service: service, Now: fake.Now, Advance: clock.Step, Unknown: token.NewValue("never issued"), Dates: dates,
		}
	})
}

func TestFailNextFailsInOrderAndHasNoEffect(t *testing.T) {
	fake := tokenfake.New(start)
	throttled, denied := &token.Error{Kind: token.KindThrottled}, &token.Error{Kind: token.KindDenied}
	fake.FailNext(tokenfake.Apply, throttled, nil, denied)
	for i, want := range []error{throttled, nil, denied, nil} {
		if _, err := fake.Apply(t.Context(), scope(), start().Add(time.Hour)); !errors.Is(err, want) {
			t.Errorf("call %d returned %v, want %v", i, err, want)
		}
	}
	if got := len(fake.Issued()); got != 2 {
		t.Errorf("issued %d tokens, want 2", got)
	}
	fake.FailNext(tokenfake.Revoke, throttled)
	if err := fake.Revoke(t.Context(), fake.Issued()[0].Value); !errors.Is(err, throttled) {
		t.Errorf("Revoke returned %v", err)
	}
	if got := len(fake.Live()); got != 2 {
		t.Errorf("%d tokens live, want 2", got)
	}
	fake.FailNext(tokenfake.Dial, denied)
	if _, err := fake.Dialer()(token.Connection{}); !errors.Is(err, denied) {
		t.Errorf("dialing returned %v", err)
	}
}

func TestTheSkewedClockJudgesAndIsTold(t *testing.T) {
	fake, dates := tokenfake.New(start), &tokentest.Dates{}
	service, err := fake.Dialer()(token.Connection{OnDate: dates.Note})
	if err != nil {
		t.Fatal(err)
	}
	value, err := service.Apply(t.Context(), scope(), start().Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	for _, ahead := range []time.Duration{time.Hour - 1, time.Hour, -time.Hour} {
		fake.SetSkew(ahead)
		dates.Take()
		if valid, err := service.Query(t.Context(), value); err != nil || valid != (ahead < time.Hour) || len(fake.Live()) == 1 != valid {
			t.Errorf("%s ahead: valid %v, %d live, %v", ahead, valid, len(fake.Live()), err)
		}
		want := []tokentest.Date{{Served: start().Add(ahead).Truncate(time.Second), Sent: start(), Received: start()}}
		if diff := cmp.Diff(want, dates.Take()); diff != "" {
			t.Errorf("%s ahead: %s", ahead, diff)
		}
	}
	fake.FailNext(tokenfake.Query, &token.Error{Kind: token.KindThrottled})
	if _, err := service.Query(t.Context(), value); err == nil || len(dates.Take()) != 1 {
		t.Error("a refusal tells no time")
	}
}

func TestWhoeverListensMayUseTheFake(t *testing.T) {
	fake, heard := tokenfake.New(start), 0
	service, err := fake.Dialer()(token.Connection{OnDate: func(time.Time, time.Time, time.Time) { heard = len(fake.Calls(tokenfake.Query)) }})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := service.Query(t.Context(), token.NewValue("x")); err != nil || heard != 1 {
		t.Errorf("heard of %d calls, %v", heard, err)
	}
}

func TestCallsAreRecorded(t *testing.T) {
	fake := tokenfake.New(start)
	connection := token.Connection{InstanceID: "post-cn-1"}
	service, err := fake.Dialer()(connection)
	if err != nil {
		t.Fatal(err)
	}
	expires := start().Add(time.Hour)
	value, err := service.Apply(t.Context(), scope(), expires)
	if err != nil {
		t.Fatal(err)
	}
	if err := service.Revoke(t.Context(), value); err != nil {
		t.Fatal(err)
	}
	want := []tokenfake.Call{
		{Operation: tokenfake.Dial, Connection: connection},
		{Operation: tokenfake.Apply, Scope: scope(), Expires: expires},
		{Operation: tokenfake.Revoke, Value: value},
	}
	exact := cmp.Options{
		cmp.Comparer(func(a, b topic.Filter) bool { return a == b }),
		cmp.Comparer(func(a, b token.Value) bool { return a == b }),
	}
	if diff := cmp.Diff(want, fake.Calls(), exact); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(want[1:2], fake.Calls(tokenfake.Apply), exact); diff != "" {
		t.Error(diff)
	}
}

func TestLifetimesAreCutAndRounded(t *testing.T) {
	fake := tokenfake.New(start)
	for _, asked := range []time.Duration{365 * 24 * time.Hour, time.Hour + time.Microsecond} {
		if _, err := fake.Apply(t.Context(), scope(), start().Add(asked)); err != nil {
			t.Fatal(err)
		}
	}
	issued := fake.Issued()
	if got := issued[0].Expires; !got.Equal(start().Add(tokenfake.MaxValidity)) {
		t.Errorf("a year became %v", got)
	}
	if got := issued[1].Expires; !got.Equal(start().Add(time.Hour)) {
		t.Errorf("the microsecond stayed: %v", got)
	}
}

func TestRevokedBehindOurBackIsNotLiveAndNotACall(t *testing.T) {
	fake := tokenfake.New(start)
	value, err := fake.Apply(t.Context(), scope(), start().Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	fake.RevokeBehindOurBack(value)
	if len(fake.Live()) != 0 || len(fake.Calls()) != 1 {
		t.Errorf("live %v, calls %v", fake.Live(), fake.Calls())
	}
}
