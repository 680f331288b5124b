package main

import (
	"context"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/mqtt-token-operator/mqtt-token-operator/internal/credsecret"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/ledger"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/simulator/state"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/token"
)

// rewatch is how long to wait before watching again when the API server has gone.
const rewatch = 300 * time.Millisecond

// follow watches every version of the Secrets of a type: no reader is faster than that.
func (w *world) follow(ctx context.Context, kind corev1.SecretType, see func(*corev1.Secret)) {
	for ctx.Err() == nil {
		w.followOnce(ctx, kind, see)
		select {
		case <-ctx.Done():
		case <-time.After(rewatch):
		}
	}
}

func (w *world) followOnce(ctx context.Context, kind corev1.SecretType, see func(*corev1.Secret)) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	var list corev1.SecretList
	options := []client.ListOption{client.MatchingFields{"type": string(kind)}}
	if w.api.List(ctx, &list, options...) != nil {
		return
	}
	for i := range list.Items {
		see(&list.Items[i])
	}
	events, err := w.watcher.Watch(ctx, &corev1.SecretList{}, append(options, &client.ListOptions{Raw: rawFrom(list.ResourceVersion)})...)
	if err != nil {
		return
	}
	defer events.Stop()
	for event := range events.ResultChan() {
		secret, ok := event.Object.(*corev1.Secret)
		if !ok {
			return
		}
		if event.Type != watch.Deleted {
			see(secret)
		}
	}
}

// seeTokens looks at a version of a token Secret.
func (w *world) seeTokens(secret *corev1.Secret) {
	w.settings.update(func(f *figures) { f.versions++ })
	w.checked(whole, 1)
	key := types.NamespacedName{Namespace: secret.Namespace, Name: secret.Name}
	missing := defect(secret)
	w.mu.Lock()
	w.book.record(w.tokensIn(secret)...)
	ours := w.damagesOf(key).see(secret.ResourceVersion, missing == "")
	w.mu.Unlock()
	if missing != "" && !ours {
		w.violated(whole, "Secret %s in version %s, deleting %v: %s", key, secret.ResourceVersion, secret.DeletionTimestamp != nil, missing)
	}
}

// seeLedger looks at a version of a page of the ledger.
func (w *world) seeLedger(secret *corev1.Secret) {
	ids := w.tokensIn(secret)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.book.record(ids...)
}

// tokensIn lists the ids of all tokens that a Secret holds, and remembers their texts.
func (w *world) tokensIn(secret *corev1.Secret) []string {
	var ids []string
	add := func(v token.Value) {
		w.texts.add(v.Reveal())
		ids = append(ids, state.IDOf(v))
	}
	if secret.Type == ledger.Type {
		page, err := ledger.Read(secret)
		if err != nil {
			return nil
		}
		for _, e := range page.Entries {
			add(e.Value)
		}
		return ids
	}
	record, err := credsecret.ReadRecord(secret)
	if err != nil {
		return nil
	}
	for _, t := range record.Tokens {
		add(t.Value)
	}
	for _, t := range record.Retired {
		add(t.Value)
	}
	return ids
}

// offered lists the ids of the tokens that a Secret gives to its reader.
func offered(secret *corev1.Secret) []string {
	record, err := credsecret.ReadRecord(secret)
	if err != nil {
		return nil
	}
	var ids []string
	for _, t := range record.Tokens {
		ids = append(ids, state.IDOf(t.Value))
	}
	return ids
}

func rawFrom(version string) *metav1.ListOptions {
	return &metav1.ListOptions{ResourceVersion: version}
}
