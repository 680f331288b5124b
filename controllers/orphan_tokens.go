package controllers

import (
	"context"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/mqtt-token-operator/mqtt-token-operator/internal/credsecret"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/ledger"
)

// orphans are the tokens of a Secret whose grant is gone.
type orphans struct {
	grant    types.NamespacedName
	grantUID types.UID
	// entries are those that can be revoked, for the ledger.
	entries []ledger.Entry
	// left counts those that cannot, and until is when the last of them ends; why says what is in the way of all of them.
	left  int
	until time.Time
	why   string
	now   time.Time
}

// orphansIn reads the tokens from a Secret, and says of each whether it can be revoked. A Secret that a backup brought
// here is another cluster's, and so are its tokens.
func (r *OrphanReconciler) orphansIn(ctx context.Context, secret *corev1.Secret) (orphans, error) {
	name, uid := grantOfSecret(secret)
	found := orphans{grant: name, grantUID: uid, now: r.Clock.Now()}
	if cluster, stated := secret.Annotations[credsecret.ClusterIDAnnotation]; stated && cluster != r.ClusterID {
		return found, nil
	}
	facts, err := credsecret.ReadFacts(&secret.ObjectMeta)
	if err != nil {
		found.why = "the Secret's facts cannot be read"
		return found, nil //nolint:nilerr // that is the finding
	}
	grant, err := r.Ledger.grant(ctx, uid)
	if err != nil {
		return orphans{}, err
	}
	namespace, err := namespaceOf(ctx, r.Client, secret.Namespace)
	if err != nil {
		return orphans{}, err
	}
	issuer, err := recordedIssuer(ctx, r.Client, r.Connections, namespace, facts)
	if err != nil {
		return orphans{}, err
	}
	switch {
	case uid == "":
		found.why = "the Secret does not say which grant it was for"
	case grant != nil: // whoever copied it must neither cut off its client nor fill its page
		found.why = "the Secret is a copy of one whose grant exists"
	case issuer == "":
		found.why = "the Secret names no MqttInstance that its namespace may use"
	case r.Ledger.isOfAnother(name.Namespace, uid):
		found.why = "the ledger knows its grant in another namespace"
	}
	record, err := credsecret.ReadRecord(secret)
	if err != nil {
		found.why = "the Secret's tokens cannot be read"
	}
	found.sort(facts, record)
	return found, nil
}

// sort divides what the facts know to be alive into tokens that can be revoked over the instance on record, and others.
func (o *orphans) sort(facts credsecret.Facts, record credsecret.Record) {
	alive := map[string]time.Time{}
	for _, t := range facts.Tokens {
		alive[t.Fingerprint] = t.Expires
	}
	for _, t := range facts.Retired {
		alive[t.Fingerprint] = t.Expires
	}
	issuer, _, _ := strings.Cut(facts.Client, "/")
	known := record.Known(facts, string(o.grantUID))
	all := append([]credsecret.Retired{}, known.Retired...)
	for _, t := range known.Tokens {
		all = append(all, credsecret.Retired{Issued: t, Client: facts.Client})
	}
	for _, t := range all {
		if o.why != "" || !issuedBy(t.Client, issuer) || !t.Expires.After(o.now) {
			continue
		}
		o.entries = append(o.entries, ledger.Entry{
			Value: t.Value, Scope: t.Scope, Client: t.Client, Instance: facts.Instance,
			Expires: t.Expires, RevokeAt: o.now, Why: ledger.Deleted,
		})
		delete(alive, t.Value.Fingerprint(string(o.grantUID)))
	}
	for _, expires := range alive {
		o.leave(expires)
	}
}

// forget leaves the entries alive, since the ledger has no room for them.
func (o *orphans) forget() {
	o.why = "the ledger has no room for them"
	for _, e := range o.entries {
		o.leave(e.Expires)
	}
}

func (o *orphans) leave(expires time.Time) {
	if !expires.After(o.now) {
		return
	}
	o.left++
	if expires.After(o.until) {
		o.until = expires
	}
}
