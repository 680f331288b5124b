package controllers_test

import (
	"slices"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/mqtt-token-operator/mqtt-token-operator/api/v1alpha1"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/token/tokenfake"
)

// TestADeletionIsHandedOverAtItsDeadline: nobody waits for a cloud that is down, and nothing is forgotten.
func TestADeletionIsHandedOverAtItsDeadline(t *testing.T) {
	for sentence, tc := range map[string]struct {
		obstruct func(*world)
		mend     func(*world)
	}{
		"while the service does not revoke": {
			obstruct: func(w *world) { w.service.FailNext(tokenfake.Revoke, repeat(unavailable(), 1000)...) },
			mend:     func(w *world) { w.service.ClearScript() },
		},
		"while the instance is gone, and the manager has forgotten it": {
			obstruct: func(w *world) {
				w.deleteInstance()
				w.run()
				w.settled()
			},
			mend: func(w *world) { w.must(w.Create(w.t.Context(), w.instance())) },
		},
	} {
		t.Run(sentence, func(t *testing.T) {
			w := readyWorld(t)
			g := w.issued("press-07")
			tc.obstruct(w)
			w.must(w.Delete(t.Context(), g))
			w.settled()
			if err := w.Get(t.Context(), keyOf(g), g); err != nil {
				t.Fatalf("the grant did not wait: %v", err)
			}
			w.advance(2*time.Minute, "press-07")
			w.eventually("the grant is gone", func() bool { return apierrors.IsNotFound(w.Get(t.Context(), keyOf(g), g)) })
			if p := w.page(g); p == nil || len(p.Entries) != 1 {
				t.Fatal("its token is on no page")
			}
			w.eventually("it is told", func() bool { return slices.Contains(w.reasons("press-07"), v1alpha1.EventHandedOver) })
			tc.mend(w)
			w.eventually("the token is revoked", func() bool {
				w.clock.SetTime(w.clock.Now().Add(time.Minute))
				w.pokePages()
				return len(w.service.Live()) == 0
			})
			w.eventuallyNoPage(g)
		})
	}
}
