package controllers

import (
	"context"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"
	toolscache "k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/workqueue"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/mqtt-token-operator/mqtt-token-operator/api/v1alpha1"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/killpoint"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/ledger"
)

// Ledger keeps the tokens that must still be revoked: one page for each grant, each a Secret in the manager's namespace.
// A page belongs to nobody, so that it outlives grant and namespace. It is safe for concurrent use.
type Ledger struct {
	client.Client
	// Live reads from the API server, past all caches.
	Live client.Reader
	// Namespace is the manager's own.
	Namespace string
	// Gauge shows how many tokens wait.
	Gauge PendingGauge

	index *ledgerIndex
	cache cache.Cache

	// pageChanged reaches the ledger controller by the page's name, wakeGrants and wakeInstances the other two controllers
	// when the number of tokens of a grant or an instance is another one.
	pageChanged   signal
	wakeGrants    signal
	wakeInstances signal
}

// +kubebuilder:rbac:groups="",namespace=mqtt-token-system,resources=secrets,verbs=get;list;watch;create;patch;delete

// pending counts the tokens that are on record for a grant. It is never older than our own last write.
func (l *Ledger) pending(grantUID types.UID) int {
	view, _ := l.index.of(ledger.Name(string(grantUID)))
	return len(view.facts.Entries)
}

// pendingOf counts the tokens that wait to be revoked over the link of an instance.
func (l *Ledger) pendingOf(instance types.NamespacedName) int {
	return l.index.ofInstance(instance.String())
}

// enter puts tokens on record, before anything else forgets them. It fails with ledger.ErrFull, and enters nothing, if
// there is no room. What is on record already, as early and as urgent, costs no request; the first page of a grant costs
// one; anything else one read and one write, which fails with a conflict if somebody else wrote in between.
func (l *Ledger) enter(ctx context.Context, grant *v1alpha1.MqttTokenGrant, entries []ledger.Entry, now time.Time) error {
	return l.enterFor(ctx, client.ObjectKeyFromObject(grant), grant.UID, entries, now)
}

func (l *Ledger) enterFor(ctx context.Context, grant types.NamespacedName, grantUID types.UID, entries []ledger.Entry, now time.Time) error {
	name := ledger.Name(string(grantUID))
	entries = slices.DeleteFunc(slices.Clone(entries), func(e ledger.Entry) bool {
		return l.index.isRevoked(name, e.Value.Fingerprint(string(grantUID)))
	})
	view, found := l.index.of(name)
	if !found && len(entries) == 0 {
		return nil
	}
	if !view.damaged && view.facts.Has(entries, now) {
		return nil
	}
	add := func(page ledger.Page) (ledger.Page, error) { return page.Add(entries, now) }
	if !found {
		if err := l.create(ctx, grant, grantUID, add); !apierrors.IsAlreadyExists(err) {
			return err
		}
	}
	err := l.update(ctx, grant, grantUID, add)
	if apierrors.IsNotFound(err) {
		return l.create(ctx, grant, grantUID, add)
	}
	return err
}

// maxOrphanPages is how many pages a namespace may have when a Secret without a grant asks for one more: anybody who may
// write Secrets can make up such grants.
const maxOrphanPages = 500

// enterOrphans is enter for a grant that only a Secret knows of. It fails with ledger.ErrFull, too, while its namespace has
// too many pages.
func (l *Ledger) enterOrphans(ctx context.Context, grant types.NamespacedName, grantUID types.UID, entries []ledger.Entry, now time.Time) error {
	_, found := l.index.of(ledger.Name(string(grantUID)))
	if len(entries) > 0 && !found && l.index.pagesOf(grant.Namespace) >= maxOrphanPages {
		return fmt.Errorf("entering tokens of %s: namespace %s has %d pages: %w", grant, grant.Namespace, maxOrphanPages, ledger.ErrFull)
	}
	return l.enterFor(ctx, grant, grantUID, entries, now)
}

// isOfAnother reports whether the page of a grant that is gone is another namespace's.
func (l *Ledger) isOfAnother(namespace string, grantUID types.UID) bool {
	view, found := l.index.of(ledger.Name(string(grantUID)))
	return found && view.facts.Grant != "" && nameOf(view.facts.Grant).Namespace != namespace
}

// expedite has everything on record for a grant revoked now, for a reason that is as urgent at least.
func (l *Ledger) expedite(ctx context.Context, grant *v1alpha1.MqttTokenGrant, why ledger.Why, now time.Time) error {
	view, found := l.index.of(ledger.Name(string(grant.UID)))
	if !found || !view.damaged && view.facts.IsExpedited(why, now) {
		return nil
	}
	err := l.update(ctx, client.ObjectKeyFromObject(grant), grant.UID, func(page ledger.Page) (ledger.Page, error) {
		return page.Without(nil, now).Expedite(why, now), nil
	})
	return client.IgnoreNotFound(err)
}

func (l *Ledger) create(ctx context.Context, grant types.NamespacedName, grantUID types.UID, change func(ledger.Page) (ledger.Page, error)) error {
	page, err := change(ledger.Page{Grant: grant.String(), GrantUID: string(grantUID)})
	if err != nil {
		return fmt.Errorf("entering tokens of %s: %w", grant, err)
	}
	secret, err := page.Render(l.Namespace)
	if err != nil {
		return fmt.Errorf("entering tokens of %s: %w", grant, err)
	}
	if err := l.Create(ctx, secret); err != nil {
		return fmt.Errorf("writing the ledger's page of %s: %w", grant, err)
	}
	killpoint.Reached(killpoint.AfterLedger)
	l.wrote(secret.ObjectMeta)
	return nil
}

func (l *Ledger) update(ctx context.Context, grant types.NamespacedName, grantUID types.UID, change func(ledger.Page) (ledger.Page, error)) error {
	secret, page, err := l.read(ctx, ledger.Name(string(grantUID)))
	if err != nil {
		return err
	}
	page.Grant = grant.String() // a damaged page does not know
	page, err = change(page)
	if err != nil {
		return fmt.Errorf("entering tokens of %s: %w", grant, err)
	}
	written, err := l.write(ctx, secret, page)
	if err != nil {
		return err
	}
	killpoint.Reached(killpoint.AfterLedger)
	l.wrote(written)
	return nil
}

// wrote takes in a page as a caller wrote it, on behalf of its grant: that one knows.
func (l *Ledger) wrote(meta metav1.ObjectMeta) {
	if change, ok := l.index.seen(viewOfPage(&meta)); ok {
		change.grant = types.NamespacedName{}
		l.announce(change)
		l.wakePage(change.page)
	}
}

// read reads a page live, tokens included.
func (l *Ledger) read(ctx context.Context, name string) (*corev1.Secret, ledger.Page, error) {
	secret := &corev1.Secret{}
	key := types.NamespacedName{Namespace: l.Namespace, Name: name}
	if err := l.Live.Get(ctx, key, secret); err != nil {
		return nil, ledger.Page{}, fmt.Errorf("reading the ledger's page %s: %w", name, err)
	}
	page, err := ledger.Read(secret)
	if err != nil {
		return nil, ledger.Page{}, fmt.Errorf("reading the ledger's page %s: %w", name, err)
	}
	return secret, page, nil
}

// write makes the Secret that was read carry the page, and fails if it is not that one any more. It returns the metadata
// as they are then. A page that is as it should be is not written.
func (l *Ledger) write(ctx context.Context, before *corev1.Secret, page ledger.Page) (metav1.ObjectMeta, error) {
	rendered, err := page.Render(l.Namespace)
	if err != nil {
		return metav1.ObjectMeta{}, fmt.Errorf("writing the ledger's page %s: %w", before.Name, err)
	}
	after := before.DeepCopy()
	after.Data = rendered.Data
	for key, value := range rendered.Annotations {
		metav1.SetMetaDataAnnotation(&after.ObjectMeta, key, value)
	}
	for key, value := range rendered.Labels {
		metav1.SetMetaDataLabel(&after.ObjectMeta, key, value)
	}
	if equality.Semantic.DeepEqual(before, after) {
		return before.ObjectMeta, nil
	}
	if err := l.Patch(ctx, after, onlyIfUnchanged(before)); err != nil {
		return metav1.ObjectMeta{}, fmt.Errorf("writing the ledger's page %s: %w", before.Name, err)
	}
	return after.ObjectMeta, nil
}

// remove deletes the Secret that was read, and no other of its name nor a newer one.
func (l *Ledger) remove(ctx context.Context, secret *corev1.Secret) error {
	err := l.Delete(ctx, secret, client.Preconditions{UID: &secret.UID, ResourceVersion: &secret.ResourceVersion})
	if client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("deleting the ledger's page %s: %w", secret.Name, err)
	}
	l.removed(secret.Name, secret.ResourceVersion)
	return nil
}

// removed takes in that the page is gone, as far as it was known in that version.
func (l *Ledger) removed(name, version string) {
	if change, ok := l.index.deleted(name, version); ok {
		l.announce(change)
	}
}

// announce tells the controllers whose numbers changed.
func (l *Ledger) announce(change pageChange) {
	if change.grant.Name != "" {
		l.wakeGrants.send(change.grant)
	}
	for _, instance := range change.instances {
		l.wakeInstances.send(instance)
	}
}

// grantUIDIndex finds a grant by its UID.
const grantUIDIndex = "uid"

// grant finds a page's grant in the cache, in whatever namespace; nil if there is none.
func (l *Ledger) grant(ctx context.Context, uid types.UID) (*v1alpha1.MqttTokenGrant, error) {
	var grants v1alpha1.MqttTokenGrantList
	if err := l.List(ctx, &grants, client.MatchingFields{grantUIDIndex: string(uid)}); err != nil {
		return nil, fmt.Errorf("looking for the grant %s: %w", uid, err)
	}
	if len(grants.Items) == 0 {
		return nil, nil //nolint:nilnil // that there is none is an answer
	}
	return &grants.Items[0], nil
}

// SetupWithManager adds the watch on the pages. Controllers start when all pages are known.
func (l *Ledger) SetupWithManager(ctx context.Context, mgr ctrl.Manager) error {
	l.index = newLedgerIndex(l.Gauge)
	err := mgr.GetFieldIndexer().IndexField(ctx, &v1alpha1.MqttTokenGrant{}, grantUIDIndex, func(object client.Object) []string {
		return []string{string(object.GetUID())}
	})
	if err != nil {
		return fmt.Errorf("indexing grants by UID: %w", err)
	}
	// The manager's own cache holds the Secrets of another type, and a field selector knows no "or".
	pages, err := cache.New(mgr.GetConfig(), cache.Options{
		HTTPClient: mgr.GetHTTPClient(), Scheme: mgr.GetScheme(), Mapper: mgr.GetRESTMapper(),
		DefaultNamespaces: map[string]cache.Config{l.Namespace: {}},
		ByObject: map[client.Object]cache.ByObject{&corev1.Secret{}: {
			Field: fields.OneTermEqualSelector("type", ledger.Type), Transform: cache.TransformStripManagedFields(),
		}},
	})
	if err != nil {
		return fmt.Errorf("making the ledger's cache: %w", err)
	}
	secrets := &metav1.PartialObjectMetadata{}
	secrets.SetGroupVersionKind(secretKind())
	informer, err := pages.GetInformer(ctx, secrets)
	if err != nil {
		return fmt.Errorf("watching the ledger: %w", err)
	}
	registration, err := informer.AddEventHandler(toolscache.ResourceEventHandlerFuncs{
		AddFunc: l.sawPage, UpdateFunc: func(_, after any) { l.sawPage(after) }, DeleteFunc: l.missedPage,
	})
	if err != nil {
		return fmt.Errorf("watching the ledger: %w", err)
	}
	l.cache = indexedCache{Cache: pages, indexed: registration.HasSynced}
	return mgr.Add(l)
}

// indexedCache is in sync when what it holds is in the index, too.
type indexedCache struct {
	cache.Cache
	indexed toolscache.InformerSynced
}

// WaitForCacheSync waits for cache and index.
func (c indexedCache) WaitForCacheSync(ctx context.Context) bool {
	return c.Cache.WaitForCacheSync(ctx) && toolscache.WaitForCacheSync(ctx.Done(), c.indexed)
}

// GetCache has the manager start the ledger among its caches, before any controller.
func (l *Ledger) GetCache() cache.Cache { return l.cache }

// Start watches until the manager stops.
func (l *Ledger) Start(ctx context.Context) error { return l.cache.Start(ctx) }

func (l *Ledger) sawPage(object any) {
	secret, ok := object.(*metav1.PartialObjectMetadata)
	if !ok {
		return
	}
	if change, newer := l.index.seen(viewOfPage(&secret.ObjectMeta)); newer {
		l.announce(change)
		l.pageChanged.send(client.ObjectKeyFromObject(secret))
	}
}

func (l *Ledger) missedPage(object any) {
	if last, ok := object.(toolscache.DeletedFinalStateUnknown); ok {
		object = last.Obj
	}
	secret, ok := object.(*metav1.PartialObjectMetadata)
	if !ok {
		return
	}
	if change, newer := l.index.vanished(secret.Name, secret.ResourceVersion); newer {
		l.announce(change)
		l.pageChanged.send(client.ObjectKeyFromObject(secret))
	}
}

// pages lets the ledger controller receive every page at its start, and each that changes.
func (l *Ledger) pages() source.Source {
	return source.Func(func(ctx context.Context, queue workqueue.TypedRateLimitingInterface[reconcile.Request]) error {
		if err := l.pageChanged.source(itself).Start(ctx, queue); err != nil {
			return err
		}
		for _, request := range l.requests("") {
			queue.Add(request)
		}
		return nil
	})
}

// wakePage has the ledger controller look at a page.
func (l *Ledger) wakePage(name string) {
	l.pageChanged.send(types.NamespacedName{Namespace: l.Namespace, Name: name})
}

// requests are the pages that hold tokens of an instance, or all of them.
func (l *Ledger) requests(instance string) []reconcile.Request {
	var requests []reconcile.Request
	for _, name := range l.index.names(instance) {
		requests = append(requests, reconcile.Request{NamespacedName: types.NamespacedName{Namespace: l.Namespace, Name: name}})
	}
	return requests
}
