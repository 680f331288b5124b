package aliyun_test

import (
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	clocktesting "k8s.io/utils/clock/testing"

	"github.com/mqtt-token-operator/mqtt-token-operator/internal/aliyun"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/token"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/token/tokentest"
)

const (
	datedText = "Wed, 05 Mar 2031 07:11:13 GMT"
	// partOfADatedAnswer ends in the middle of its body.
	partOfADatedAnswer = "HTTP/1.1 200 OK\r\nDate: " + datedText + "\r\nContent-Length: 9999\r\n\r\n{\"Token\":"
)

func TestEachAnswerTellsTheServicesTime(t *testing.T) {
	dated := func(answer http.HandlerFunc) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Date", datedText)
			answer(w, r)
		}
	}
	headed := func(values ...string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			w.Header()["Date"] = values // none: the server adds none of its own
			working(w, r)
		}
	}
	for sentence, tc := range map[string]struct {
		answer http.HandlerFunc
		want   bool
	}{
		"a success":                       {dated(working), true},
		"a refusal":                       {dated(answering(http.StatusBadRequest, `{"RequestId":"R","Code":"InvalidTimeStamp.Expired"}`)), true},
		"a failure of the service":        {dated(answering(http.StatusServiceUnavailable, `{"RequestId":"R","Code":"ServiceUnavailable"}`)), true},
		"an answer that nobody can read":  {dated(answering(http.StatusOK, "<html>")), true},
		"an answer that breaks off":       {breaking(func(*http.Request) string { return partOfADatedAnswer }), true},
		"an answer without the header":    {headed(), false},
		"a header that is no time":        {headed("yesterday"), false},
		"a connection that gives nothing": {breaking(func(*http.Request) string { return "" }), false},
	} {
		t.Run(sentence, func(t *testing.T) {
			clock, dates := clocktesting.NewFakeClock(expiry()), &tokentest.Dates{}
			p := startPeer(t, func(w http.ResponseWriter, r *http.Request) {
				clock.Step(time.Second)
				tc.answer(w, r)
			})
			connection := p.connection()
			connection.OnDate = dates.Note
			_, _ = open(t, connection, aliyun.Options{Now: clock.Now}).Apply(t.Context(), scope(), expiry())
			var want []tokentest.Date
			if tc.want {
				served := time.Date(2031, 3, 5, 7, 11, 13, 0, time.UTC)
				want = []tokentest.Date{{Served: served, Sent: expiry(), Received: expiry().Add(time.Second)}}
			}
			if diff := cmp.Diff(want, dates.Take()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// The handshake of a new connection is no part of the round trip that the service's time is judged by.
func TestTheTimeOfSendingIsAfterTheHandshake(t *testing.T) {
	clock, dates := clocktesting.NewFakeClock(expiry()), &tokentest.Dates{}
	p := newPeer(t, working)
	p.Listener = slowListener{Listener: p.Listener, pass: func() { clock.Step(time.Minute) }}
	p.StartTLS()
	connection := p.connection()
	connection.OnDate = dates.Note
	if _, err := open(t, connection, aliyun.Options{Now: clock.Now}).Query(t.Context(), token.NewValue("x")); err != nil {
		t.Fatal(err)
	}
	told := dates.Take()
	if len(told) != 1 {
		t.Fatalf("told %d times", len(told))
	}
	for _, d := range told {
		if d.Sent != expiry().Add(time.Minute) || d.Received != d.Sent {
			t.Errorf("told %+v", d)
		}
	}
}

// slowListener lets time pass before it takes a connection.
type slowListener struct {
	net.Listener
	pass func()
}

func (l slowListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	l.pass()
	return conn, err
}

func TestByDefaultTheRealClockMeasures(t *testing.T) {
	dates := &tokentest.Dates{}
	p := startPeer(t, func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `{"RequestId":"R-2","TokenStatus":true}`)
	})
	connection := p.connection()
	connection.OnDate = dates.Note
	before := time.Now()
	if _, err := open(t, connection, aliyun.Options{}).Query(t.Context(), token.NewValue("x")); err != nil {
		t.Fatal(err)
	}
	told := dates.Take()
	if len(told) != 1 {
		t.Fatalf("told %d times", len(told))
	}
	for _, d := range told {
		if d.Sent.Before(before) || d.Received.After(time.Now()) || d.Received.Sub(d.Sent) <= 0 {
			t.Errorf("told %+v", d)
		}
	}
}
