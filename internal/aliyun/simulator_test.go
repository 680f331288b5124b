package aliyun_test

import (
	"testing"
	"time"

	"k8s.io/utils/clock"

	"github.com/mqtt-token-operator/mqtt-token-operator/internal/aliyun"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/simulator/state"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/simulator/wire"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/token"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/token/tokentest"
)

// simulate starts the simulator's OpenAPI and returns it with a connection to it.
func simulate(t *testing.T, switches state.Switches) (*state.State, token.Connection) {
	t.Helper()
	issuer, err := state.New(state.Options{
		Accounts: []state.Account{{ID: "1001", Keys: []state.Key{{
			ID: "LTAI5tExample", Secret: token.NewValue(canarySecret), SecurityToken: token.NewValue(canarySTS),
		}}}},
		Instances: []state.Instance{{ID: "post-cn-0pp12gl0001", Region: "cn-hangzhou", Account: "1001"}},
		Switches:  switches,
	})
	if err != nil {
		t.Fatal(err)
	}
	p := startPeer(t, wire.NewHandler(issuer, clock.RealClock{}).ServeHTTP)
	return issuer, p.connection()
}

func TestClientConforms(t *testing.T) {
	for sentence, switches := range map[string]state.Switches{
		"where revoking what was never issued is fine":       {},
		"where revoking what was never issued is refused":    {StrictRevoke: true},
		"where the order of topics counts":                   {StrictOrder: true},
		"where a revocation takes time to reach the broker":  {RevocationDelay: time.Minute},
		"where everything undocumented is at its strict end": {StrictRevoke: true, StrictOrder: true, IssuerKeyOnly: true},
	} {
		t.Run(sentence, func(t *testing.T) {
			tokentest.Run(t, func(t *testing.T) tokentest.Subject {
				t.Helper()
				issuer, connection := simulate(t, switches)
				dates := &tokentest.Dates{}
				connection.OnDate = dates.Note
				return tokentest.Subject{
					Service: open(t, connection, aliyun.Options{}),
					Now:     issuer.Now,
					Advance: func(by time.Duration) {
						if err := issuer.Advance(by); err != nil {
							t.Fatal(err)
						}
					},
					Unknown: token.NewValue("bmV2ZXItaXNzdWVk"),
					Dates:   dates,
				}
			})
		})
	}
}

func TestTheSimulatorRefusesAForgedKeyAsTheServiceDoes(t *testing.T) {
	_, connection := simulate(t, state.Switches{})
	connection.AccessKeySecret = token.NewValue("another secret")
	_, err := open(t, connection, aliyun.Options{}).Apply(t.Context(), scope(), time.Now().Add(time.Hour))
	wantFault(t, err, token.KindInstance, "SignatureDoesNotMatch")
	wantNothingPrinted(t, "Apply", err)
}

func TestTheTokenEndsAtTheMillisecondAskedFor(t *testing.T) {
	issuer, connection := simulate(t, state.Switches{})
	expires := issuer.Now().Add(time.Hour).Truncate(time.Second).Add(7_999_999)
	if _, err := open(t, connection, aliyun.Options{}).Apply(t.Context(), scope(), expires); err != nil {
		t.Fatal(err)
	}
	if got := issuer.Tokens()[0].Expires; !got.Equal(expires.Truncate(time.Millisecond)) {
		t.Errorf("ends at %v, want %v", got, expires.Truncate(time.Millisecond))
	}
}
