package controllers

import (
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/resourceversion"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/mqtt-token-operator/mqtt-token-operator/api/v1alpha1"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/credsecret"
)

// recent is what this process did for each grant and may not see in its caches yet. Nothing in it is needed after a
// restart.
type recent struct {
	mu     sync.Mutex
	grants map[types.NamespacedName]recentGrant
}

type recentGrant struct {
	uid           types.UID // another UID under the same name is another grant
	grantVersion  string    // resource version of our last write to the grant
	secretVersion string    // resource version of our last write to its Secret
	lastApplied   time.Time
	unsaved       []unsavedToken
	revoked       []string  // fingerprints
	deletionSeen  time.Time // by the local clock
	verified      time.Time // when the service was last asked about the tokens, or this process first saw the grant
	invalid       []string  // fingerprints that the service called invalid
}

// unsavedToken came from the service and is in no Secret yet.
type unsavedToken struct {
	credsecret.Issued
	client string
	keyID  string
}

func newRecent() *recent { return &recent{grants: map[types.NamespacedName]recentGrant{}} }

// of returns what is remembered of a grant.
func (r *recent) of(grant *v1alpha1.MqttTokenGrant) recentGrant {
	r.mu.Lock()
	defer r.mu.Unlock()
	g := r.grants[client.ObjectKeyFromObject(grant)]
	if g.uid != grant.UID {
		return recentGrant{uid: grant.UID}
	}
	return g
}

// note changes what is remembered of a grant. Slices are replaced, never changed in place: of hands them out.
func (r *recent) note(grant *v1alpha1.MqttTokenGrant, change func(*recentGrant)) {
	g := r.of(grant)
	change(&g)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.grants[client.ObjectKeyFromObject(grant)] = g
}

// forget drops a grant that is gone.
func (r *recent) forget(name types.NamespacedName) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.grants, name)
}

// isOlder reports whether an object from the cache is older than our last write to it. It is false where the two
// cannot be compared: then the writes' preconditions decide.
func isOlder(version, written string) bool {
	if version == "" || written == "" {
		return false
	}
	order, err := resourceversion.CompareResourceVersion(version, written)
	return err == nil && order < 0
}
