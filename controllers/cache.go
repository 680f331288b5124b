package controllers

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/apiutil"

	"github.com/mqtt-token-operator/mqtt-token-operator/api/v1alpha1"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/credsecret"
)

// CacheOptions keep the manager's memory to what decisions need: of Secrets, those of our type and their metadata only.
// A read of a kind that nothing watches fails instead of starting a watch. If namespaces are given, nothing is cached
// from any other one, and nothing asked for there.
func CacheOptions(namespaces ...string) cache.Options {
	lean := cache.ByObject{Transform: cache.TransformStripManagedFields()}
	options := cache.Options{
		ReaderFailOnMissingInformer: true,
		ByObject: map[client.Object]cache.ByObject{
			&corev1.Secret{}:           {Field: fields.OneTermEqualSelector("type", credsecret.Type)},
			&corev1.Namespace{}:        lean,
			&v1alpha1.MqttInstance{}:   lean,
			&v1alpha1.MqttTokenGrant{}: lean,
		},
	}
	for _, namespace := range namespaces {
		if options.DefaultNamespaces == nil {
			options.DefaultNamespaces = map[string]cache.Config{}
		}
		options.DefaultNamespaces[namespace] = cache.Config{}
	}
	return options
}

// NewCache makes a cache to which nothing exists outside the namespaces of its options, if they name any: a grant that
// names an MqttInstance there waits for it as for one that is yet to be made.
func NewCache(config *rest.Config, options cache.Options) (cache.Cache, error) {
	made, err := cache.New(config, options)
	if err != nil || len(options.DefaultNamespaces) == 0 {
		return made, err
	}
	return &narrowCache{Cache: made, kinds: options.Scheme, namespaces: options.DefaultNamespaces}, nil
}

// NewBlindCache is NewCache for a manager that may not see namespaces: each exists, without labels.
func NewBlindCache(config *rest.Config, options cache.Options) (cache.Cache, error) {
	made, err := NewCache(config, options)
	return blindCache{Cache: made, kinds: options.Scheme}, err
}

type blindCache struct {
	cache.Cache
	kinds *runtime.Scheme
}

// Get implements client.Reader.
func (c blindCache) Get(ctx context.Context, key client.ObjectKey, object client.Object, options ...client.GetOption) error {
	kind, err := apiutil.GVKForObject(object, c.kinds)
	switch {
	case err != nil:
		return err
	case kind != NamespaceKind():
		return c.Cache.Get(ctx, key, object, options...)
	}
	object.SetName(key.Name)
	return nil
}

// narrowCache turns what controller-runtime takes for a mistake, a read of a namespace that is not watched, into the
// answer that there is nothing.
type narrowCache struct {
	cache.Cache
	kinds      *runtime.Scheme
	namespaces map[string]cache.Config
}

// Get implements client.Reader.
func (c *narrowCache) Get(ctx context.Context, key client.ObjectKey, object client.Object, options ...client.GetOption) error {
	if c.covers(key.Namespace) {
		return c.Cache.Get(ctx, key, object, options...)
	}
	kind, err := apiutil.GVKForObject(object, c.kinds)
	if err != nil {
		return err
	}
	return apierrors.NewNotFound(schema.GroupResource{Group: kind.Group, Resource: kind.Kind}, key.String())
}

// List implements client.Reader. Whoever lists starts with an empty list.
func (c *narrowCache) List(ctx context.Context, list client.ObjectList, options ...client.ListOption) error {
	asked := client.ListOptions{}
	asked.ApplyOptions(options)
	if !c.covers(asked.Namespace) {
		return nil
	}
	return c.Cache.List(ctx, list, options...)
}

func (c *narrowCache) covers(namespace string) bool {
	_, found := c.namespaces[namespace]
	return found || namespace == ""
}
