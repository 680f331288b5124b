package mqttcred_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/google/go-cmp/cmp"

	"github.com/mqtt-token-operator/mqtt-token-operator/pkg/mqttcred"
)

const (
	revoked = `{"code":3,"type":"R"}`
	noTopic = `{"code":4,"type":"R"}`
	soonEnd = `{"expireTime":1655798142873,"type":"R"}`
)

func TestNoticesExplainWhyAConnectionHasEnded(t *testing.T) {
	type message struct{ topic, payload string }
	const invalid, expire = mqttcred.TopicInvalidNotice, mqttcred.TopicExpireNotice
	for sentence, tc := range map[string]struct {
		said        []message
		wantRefused bool
	}{
		"the token was revoked":                       {said: []message{{invalid, revoked}}, wantRefused: true},
		"the same, said again and again":              {said: []message{{invalid, revoked}, {invalid, revoked}, {invalid, revoked}}, wantRefused: true},
		"revoked, where a topic was not permitted":    {said: []message{{invalid, noTopic}, {invalid, revoked}}, wantRefused: true},
		"a topic was not permitted":                   {said: []message{{invalid, noTopic}}},
		"that a token is about to end is no reason":   {said: []message{{expire, soonEnd}}},
		"nor is what an application says":             {said: []message{{"factory/state", revoked}}},
		"revoked, after a life of tokens that end":    {said: append(many(message{expire, soonEnd}, 100), message{invalid, revoked}), wantRefused: true},
		"revoked, and something that cannot be read":  {said: []message{{invalid, revoked}, {invalid, "{"}}, wantRefused: true},
		"a connection may end without anything being": {},
	} {
		t.Run(sentence, func(t *testing.T) {
			t.Parallel()
			notices, lost := mqttcred.NewNotices(), errors.New("the connection is lost")
			for _, m := range tc.said {
				notices.Take(m.topic, []byte(m.payload))
			}
			why := notices.Explain(lost)
			if errors.Is(why, mqttcred.ErrRefused) != tc.wantRefused || !errors.Is(why, lost) {
				t.Errorf("explained by %v, want refused: %v", why, tc.wantRefused)
			}
		})
	}
}

func many[T any](one T, n int) []T {
	all := make([]T, n)
	for i := range all {
		all[i] = one
	}
	return all
}

// A script of sessions: each returns how it ended; the next begins only with what is worth a CONNECT.
func TestKeepConnectsOnlyWithWhatIsWorthIt(t *testing.T) {
	m := newMount(t, "W|one")
	source := m.open()
	ctx, cancel := context.WithCancelCause(within(t, 20*time.Second))
	over := errors.New("the script is over")
	var used []string
	var told []mqttcred.EventKind
	session := func(_ context.Context, c mqttcred.Credentials) (mqttcred.Credentials, error) {
		used = append(used, c.Password)
		switch len(used) {
		case 1: // a newer version that could not be uploaded
			m.lay(map[string]string{"password": "W|two"})
			newer, err := source.Newer(ctx, c)
			if err != nil {
				return newer, err
			}
			return c, fmt.Errorf("%w: no PUBACK", mqttcred.ErrReconnect)
		case 2: // refused: nothing is tried until there is something else
			return c, mqttcred.ErrRefused
		default:
			cancel(over)
			return c, nil
		}
	}
	tell := func(e mqttcred.Event) {
		told = append(told, e.Kind)
		if e.Kind == mqttcred.Waiting {
			m.lay(map[string]string{"password": "W|three"})
		}
	}
	if err := source.Keep(ctx, session, tell); !errors.Is(err, over) {
		t.Errorf("it ended with %v", err)
	}
	if diff := cmp.Diff([]string{"W|one", "W|two", "W|three"}, used); diff != "" {
		t.Errorf("connected with (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]mqttcred.EventKind{mqttcred.Disconnected, mqttcred.Disconnected, mqttcred.Waiting}, told); diff != "" {
		t.Errorf("told (-want +got):\n%s", diff)
	}
}

func FuzzEventIsALineWithoutSecrets(f *testing.F) {
	f.Add(uint8(mqttcred.Disconnected), mqttcred.TopicInvalidNotice, []byte(revoked), "lost\nfor good")
	f.Add(uint8(mqttcred.Noticed), mqttcred.TopicExpireNotice, []byte(soonEnd), "")
	f.Add(uint8(mqttcred.Noticed), mqttcred.TopicInvalidNotice, []byte(`{"code":2,"type":"R\nconnected"}`), "")
	f.Add(uint8(mqttcred.Waiting), mqttcred.TopicExpireNoticeVariant, []byte(`{"exprireTime":9223372036854775807}`), "\x1b[2J")
	f.Add(uint8(200), "factory/state", []byte("null"), "")
	f.Fuzz(func(t *testing.T, kind uint8, topic string, payload []byte, why string) {
		notice, is := mqttcred.ParseNotice(topic, payload)
		if !is && notice != (mqttcred.Notice{}) || notice.IsOver() && !notice.Invalid {
			t.Errorf("%q on %q is %#v, %v", payload, topic, notice, is)
		}
		event := mqttcred.Event{Kind: mqttcred.EventKind(kind), Credentials: credentials(), Notice: notice, Err: errors.New(why)}
		text := event.String()
		if strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) {
			t.Errorf("described as %q", text)
		}
		if !strings.Contains(why+string(payload), canary) && strings.Contains(text, canary) {
			t.Errorf("a secret is in %q", text)
		}
	})
}
