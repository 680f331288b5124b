package controllers

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/fields"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/mqtt-token-operator/mqtt-token-operator/api/v1alpha1"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/credsecret"
)

// CacheOptions keep the manager's memory to what decisions need: of Secrets, those of our type and their metadata only.
// A read of a kind that nothing watches fails instead of starting a watch.
func CacheOptions() cache.Options {
	lean := cache.ByObject{Transform: cache.TransformStripManagedFields()}
	return cache.Options{
		ReaderFailOnMissingInformer: true,
		ByObject: map[client.Object]cache.ByObject{
			&corev1.Secret{}:           {Field: fields.OneTermEqualSelector("type", credsecret.Type)},
			&corev1.Namespace{}:        lean,
			&v1alpha1.MqttInstance{}:   lean,
			&v1alpha1.MqttTokenGrant{}: lean,
		},
	}
}
