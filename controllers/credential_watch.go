package controllers

import (
	"context"
	"sync"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/metadata/metadatainformer"
	"k8s.io/client-go/tools/cache"
)

// CredentialWatch watches the credential Secret of each instance: that one by name, and its metadata only, so that
// neither RBAC nor memory needs more.
type CredentialWatch struct {
	client  metadata.Interface
	changed signal

	mu      sync.Mutex
	watches map[types.NamespacedName]credentialInformer // by instance
}

type credentialInformer struct {
	secret types.NamespacedName
	stop   context.CancelFunc
}

// NewCredentialWatch returns one that watches nothing yet.
func NewCredentialWatch(client metadata.Interface) *CredentialWatch {
	return &CredentialWatch{client: client, watches: map[types.NamespacedName]credentialInformer{}}
}

// Start keeps the watches until the manager stops.
func (w *CredentialWatch) Start(ctx context.Context) error {
	<-ctx.Done()
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, watch := range w.watches {
		watch.stop()
	}
	clear(w.watches)
	return nil
}

// Ensure watches a Secret on behalf of an instance, instead of any other one. The watch goes on until Stop.
func (w *CredentialWatch) Ensure(ctx context.Context, instance, secret types.NamespacedName) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.watches[instance].secret == secret {
		return
	}
	if old, found := w.watches[instance]; found {
		old.stop()
	}
	// A reconcile's context ends with it; the watch goes on.
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	w.watches[instance] = credentialInformer{secret: secret, stop: stop}
	informer := metadatainformer.NewFilteredMetadataInformer(w.client, corev1.SchemeGroupVersion.WithResource("secrets"), secret.Namespace, 0,
		cache.Indexers{}, func(options *metav1.ListOptions) {
			options.FieldSelector = fields.OneTermEqualSelector(metav1.ObjectNameField, secret.Name).String()
		}).Informer()
	tell := func(any) { w.changed.send(instance) }
	handler := cache.ResourceEventHandlerFuncs{AddFunc: tell, DeleteFunc: tell, UpdateFunc: func(_, after any) { tell(after) }}
	if _, err := informer.AddEventHandler(handler); err != nil {
		panic(err) // only a stopped informer refuses a handler, and this one has not started
	}
	go informer.RunWithContext(running)
}

// Stop ends the watch of an instance that is gone.
func (w *CredentialWatch) Stop(instance types.NamespacedName) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if watch, found := w.watches[instance]; found {
		watch.stop()
		delete(w.watches, instance)
	}
}
