package deletion_test

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/mqtt-token-operator/mqtt-token-operator/internal/simulator/state"
	"github.com/mqtt-token-operator/mqtt-token-operator/test/cluster"
)

const (
	// deadline is what the manager is told, the shortest that it takes.
	deadline = 10 * time.Second
	// slack is what a slow machine may add to anything.
	slack = 15 * time.Second
	// namespaceTakes is what kube-controller-manager adds to the end of a namespace: it begins after 5 s, and looks again
	// every 8 s while a finalizer is in its way.
	namespaceTakes = 15 * time.Second
	// leaseLasts is how long a manager waits for the lease of one that was killed.
	leaseLasts = 15 * time.Second
	// lookout is how often the manager looks at namespaces that nobody deletes, or that it may not read.
	lookout = 10 * time.Second
)

// TestDeletions deletes in every way, in both installations. A deletion ends within the deadline, whatever happens, and
// nothing that is gone leaves a token alive that is on no record.
func TestDeletions(t *testing.T) {
	var both sync.WaitGroup
	for _, manifests := range []string{"config/default", "config/namespaced"} {
		both.Go(func() {
			t.Run(filepath.Base(manifests), func(t *testing.T) { deleteEverything(t, install(t, manifests)) })
		})
	}
	both.Wait()
}

func deleteEverything(t *testing.T, i *installation) {
	t.Helper()
	stages, rows := map[string]*stage{}, scenarios()
	maps.DeleteFunc(rows, func(_ string, tc scenario) bool { return tc.bound && i.binding == nil })
	for _, sentence := range slices.Sorted(maps.Keys(rows)) {
		stages[sentence] = i.newStage(rows[sentence].together)
	}
	i.start()
	i.hasOnlyTheRightsThatItNeeds()
	begun := maps.Clone(rows)
	maps.DeleteFunc(begun, func(_ string, tc scenario) bool { return tc.begin == nil })
	each(t, "until the manager is killed", begun, func(t *testing.T, sentence string, tc scenario) { tc.begin(stages[sentence].of(t)) })
	i.kill()
	i.start()
	each(t, "to the end", rows, func(t *testing.T, sentence string, tc scenario) { tc.play(stages[sentence].of(t)) })
	if i.binding != nil {
		i.bringBack(stages["a namespace with grants"], stages["a Secret that is reissued"])
	}
}

// each plays all rows at the same time: they wait more than they work. Parallel tests would take turns on few cores.
func each(t *testing.T, name string, rows map[string]scenario, play func(*testing.T, string, scenario)) {
	t.Helper()
	t.Run(name, func(t *testing.T) {
		var all sync.WaitGroup
		for sentence, tc := range rows {
			all.Go(func() { t.Run(sentence, func(t *testing.T) { play(t, sentence, tc) }) })
		}
		all.Wait()
	})
}

// scenario is something that somebody deletes.
type scenario struct {
	// together puts the instance into the namespace of the grants.
	together bool
	// bound is for a manager that RoleBindings let in.
	bound bool
	// begin plays under a manager that is killed after that.
	begin func(*stage)
	play  func(*stage)
}

func scenarios() map[string]scenario {
	return map[string]scenario{
		"a namespace with grants": {play: func(s *stage) {
			s.setUp("press-1", "press-2")
			s.deletesNamespace(deadline)
			s.settled()
		}},
		"a namespace with grants and their instance": {together: true, play: func(s *stage) {
			s.setUp("press-1", "press-2")
			s.deletesNamespace(deadline)
			s.settled()
		}},
		"a namespace while the service is down": {play: func(s *stage) {
			s.setUp("press-1", "press-2")
			s.goDown()
			s.deletesNamespace(deadline)
			s.handedOver("press-1", "press-2")
			s.settled()
		}},
		"a namespace with grants and their instance while the service is down": {together: true, play: func(s *stage) {
			s.setUp("press-1", "press-2")
			s.goDown()
			s.deletesNamespace(deadline)
			s.handedOver("press-1", "press-2")
			s.settled()
		}},
		"a grant by a foreground cascade": {play: func(s *stage) {
			s.setUp("press-1")
			s.kubectl("delete", "-n", s.name, "mtg", "press-1", "--cascade=foreground", "--wait=false")
			s.gone(deadline, s.grant("press-1"), s.secret("press-1"))
			s.settled()
		}},
		"a grant by a foreground cascade while the service is down": {play: func(s *stage) {
			s.setUp("press-1")
			s.goDown()
			s.kubectl("delete", "-n", s.name, "mtg", "press-1", "--cascade=foreground", "--wait=false")
			s.gone(deadline, s.grant("press-1"), s.secret("press-1"))
			s.handedOver("press-1")
			s.settled()
		}},
		"a grant by an orphan cascade": {play: func(s *stage) {
			s.setUp("press-1")
			s.kubectl("delete", "-n", s.name, "mtg", "press-1", "--cascade=orphan", "--wait=false")
			s.gone(deadline, s.grant("press-1"), s.secret("press-1"))
			s.settled()
		}},
		"a grant by an orphan cascade while the service is down": {play: func(s *stage) {
			s.setUp("press-1")
			s.goDown()
			s.kubectl("delete", "-n", s.name, "mtg", "press-1", "--cascade=orphan", "--wait=false")
			s.gone(deadline, s.grant("press-1"), s.secret("press-1"))
			s.handedOver("press-1")
			s.settled()
		}},
		"an instance before its grants, with its credential": {play: func(s *stage) {
			s.setUp("press-1", "press-2")
			s.kubectl("delete", "--wait=false", "-f", s.manifest(s.instance(), s.credential(), s.grant("press-1"), s.grant("press-2")))
			s.gone(deadline, s.grant("press-1"), s.grant("press-2"), s.secret("press-1"), s.secret("press-2"), s.instance(), s.credential())
			s.settled()
		}},
		"an instance before its grants while the service is down": {play: func(s *stage) {
			s.setUp("press-1", "press-2")
			s.goDown()
			s.kubectl("delete", "--wait=false", "-f", s.manifest(s.instance(), s.credential(), s.grant("press-1"), s.grant("press-2")))
			s.gone(deadline, s.grant("press-1"), s.grant("press-2"), s.secret("press-1"), s.secret("press-2"), s.credential())
			s.gone(deadline, s.instance())
			s.settled()
		}},
		"a Secret that is reissued": {play: func(s *stage) {
			s.setUp("press-1")
			s.reissued("press-1", func() { s.kubectl("delete", "-n", s.name, "secret", "press-1", "--wait=false") })
			s.settled()
		}},
		"a grant that lost its finalizer": {play: func(s *stage) {
			s.setUp("press-1")
			s.goDown()
			s.strip(s.grant("press-1"))
			s.delete(s.grant("press-1"))
			s.gone(deadline, s.grant("press-1"), s.secret("press-1"))
			s.handedOver("press-1")
			s.settled()
		}},
		"a grant whose Secret lost its finalizer": {play: func(s *stage) {
			s.setUp("press-1")
			s.strip(s.secret("press-1"))
			s.hasFinalizer(s.secret("press-1"))
			s.goDown()
			s.delete(s.grant("press-1"))
			s.gone(deadline, s.grant("press-1"), s.secret("press-1"))
			s.handedOver("press-1")
			s.settled()
		}},
		"a namespace, when the manager is killed while the service is down": {
			begin: func(s *stage) {
				s.setUp("press-1", "press-2")
				s.goDown()
				s.delete(s.namespace())
				s.tried()
			},
			play: func(s *stage) {
				s.gone(deadline+leaseLasts+namespaceTakes, s.namespace())
				s.handedOver("press-1", "press-2")
				s.settled()
			},
		},
		"grants, when the manager is killed while it revokes": {
			begin: func(s *stage) {
				s.setUp("press-1", "press-2", "press-3")
				s.slowDown(6 * time.Second)
				s.delete(s.grant("press-1"), s.grant("press-2"), s.grant("press-3"))
				s.someRevoked()
			},
			play: func(s *stage) {
				s.comeBack()
				s.gone(deadline+leaseLasts, s.grant("press-1"), s.grant("press-2"), s.grant("press-3"), s.secret("press-1"), s.secret("press-2"), s.secret("press-3"))
				s.settled()
			},
		},
		"everything with the RoleBinding": {together: true, bound: true, play: func(s *stage) {
			s.setUp("press-1", "press-2")
			s.kubectl("delete", "--wait=false", "-f", s.manifest(s.roleBinding(), s.credential(), s.instance(), s.grant("press-1"), s.grant("press-2")))
			s.gone(deadline+lookout, s.grant("press-1"), s.grant("press-2"), s.secret("press-1"), s.secret("press-2"), s.instance(), s.roleBinding())
			s.settled()
		}},
		"everything with the RoleBinding while the service is down": {together: true, bound: true, play: func(s *stage) {
			s.setUp("press-1", "press-2")
			s.goDown()
			s.kubectl("delete", "--wait=false", "-f", s.manifest(s.roleBinding(), s.credential(), s.instance(), s.grant("press-1"), s.grant("press-2")))
			s.gone(deadline+lookout, s.grant("press-1"), s.grant("press-2"), s.secret("press-1"), s.secret("press-2"), s.instance(), s.roleBinding())
			s.handedOver("press-1", "press-2")
			s.settled()
		}},
	}
}

// deletesNamespace deletes the namespace of the grants. What waits in there for the manager is gone in time, and then,
// in its own time, the namespace.
func (s *stage) deletesNamespace(within time.Duration) {
	s.t.Helper()
	s.delete(s.namespace())
	s.gone(within+namespaceTakes, s.namespace())
}

// handedOver checks that the ledger holds the tokens of the grants.
func (s *stage) handedOver(grants ...string) {
	s.t.Helper()
	if got, want := len(s.inLedger()), len(grants)*tokensOfAGrant; got != want {
		s.t.Errorf("%d tokens are in the ledger, want %d", got, want)
	}
}

// tried waits until a revocation has failed.
func (s *stage) tried() {
	s.t.Helper()
	s.eventually(slack, "a revocation is tried", func() string {
		if s.cloud.Calls()[state.Revoke].Failed == 0 {
			return "a call"
		}
		return ""
	})
}

// someRevoked waits until the first tokens are revoked.
func (s *stage) someRevoked() {
	s.t.Helper()
	before := len(s.alive())
	s.eventually(slack, "the first tokens are revoked", func() string {
		if len(s.alive()) == before {
			return "a call"
		}
		return ""
	})
	s.t.Logf("%d of %d tokens are alive when the manager is killed", len(s.alive()), before)
}

// hasFinalizer waits until the manager has made up for what somebody stripped.
func (s *stage) hasFinalizer(object client.Object) {
	s.t.Helper()
	s.eventually(slack, "the finalizer is back", func() string {
		must(s.t, s.Get(s.t.Context(), client.ObjectKeyFromObject(object), object))
		if len(object.GetFinalizers()) == 0 {
			return "a finalizer"
		}
		return ""
	})
}

// reissued has a Secret lost, and checks that another one takes its place with new tokens, and that the old ones stay
// usable for the overlap and no longer.
func (s *stage) reissued(name string, lose func()) {
	s.t.Helper()
	old, before := s.secret(name), s.alive()
	must(s.t, s.Get(s.t.Context(), client.ObjectKeyFromObject(old), old))
	lose()
	began := time.Now()
	s.eventually(deadline+slack, "there is a new Secret", func() string {
		secret := s.secret(name)
		err := s.Get(s.t.Context(), client.ObjectKeyFromObject(secret), secret)
		must(s.t, client.IgnoreNotFound(err))
		if secret.UID == "" || secret.UID == old.UID {
			return "a Secret that is not the old one"
		}
		return ""
	})
	// The overlap counts from the decision, in whole seconds; the Secret is seen later.
	const decided = 2 * time.Second
	replaced := time.Now()
	s.t.Logf("reissued after %s", replaced.Sub(began).Round(100*time.Millisecond))
	for id := range s.inSecrets() {
		if before[id] {
			s.t.Error("the new Secret holds a token of the old one")
		}
	}
	s.served(name)
	must(s.t, cluster.Eventually(s.t.Context(), overlap+slack, func() (string, error) {
		old := s.alive()
		maps.DeleteFunc(old, func(id string, _ bool) bool { return !before[id] })
		since := time.Since(replaced)
		switch {
		case len(old) > 0:
			return "the end of the old tokens", nil
		case since < overlap-decided:
			return "", fmt.Errorf("the old tokens were revoked %s after they were replaced, before a mounted file has the new ones", since)
		}
		return "", nil
	}))
	s.t.Logf("the old tokens ended %s after that; the overlap is %s", time.Since(replaced).Round(100*time.Millisecond), overlap)
	must(s.t, s.Get(s.t.Context(), client.ObjectKeyFromObject(old), &corev1.Secret{}))
}

// bringBack makes a namespace that is gone once more. The manager that is started without it serves the others, ends
// when it is let in, and serves it, too, when it is started again.
func (i *installation) bringBack(lost, stayed *stage) {
	i.t.Helper()
	i.stop()
	i.start()
	must(i.t, i.Create(i.t.Context(), stayed.grant("press-9")))
	stayed.served("press-9")
	i.mayEnd()
	i.makeNamespace(i.t, lost.name)
	began := time.Now()
	select {
	case <-i.manager.Ended():
		i.t.Logf("the manager ended %s after it was let in again; the bound is %s and some slack", time.Since(began).Round(100*time.Millisecond), lookout)
	case <-time.After(lookout + slack):
		i.t.Fatalf("the manager goes on without the namespace\n%s", i.manager.Tail(10))
	}
	i.start()
	must(i.t, i.Create(i.t.Context(), lost.grant("press-1")))
	lost.served("press-1")
}
