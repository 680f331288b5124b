package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/mqtt-token-operator/mqtt-token-operator/api/v1alpha1"
	"github.com/mqtt-token-operator/mqtt-token-operator/controllers"
)

// scope is the part of the cluster that the manager serves.
type scope struct {
	// all says that it serves every namespace; the lists are empty then.
	all bool
	// open are the namespaces that it was told to watch and may read, closed the others.
	open, closed []string
	// blind says that it may not see namespaces themselves: neither their labels nor that one is being deleted.
	blind bool
}

// isBlind reports whether the manager may not watch namespaces.
func isBlind(ctx context.Context, reader client.Reader) (bool, error) {
	namespaces := &metav1.PartialObjectMetadataList{}
	namespaces.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("NamespaceList"))
	err := reader.List(ctx, namespaces, client.Limit(1))
	if err != nil && !apierrors.IsForbidden(err) {
		return false, fmt.Errorf("looking whether namespaces can be seen: %w", err)
	}
	return err != nil, nil
}

// newScope finds out which of the namespaces the manager may read. One that it may not read would keep all caches from
// ever being complete, and so the grants of all others from being served: it may be one that was deleted, or that is
// yet to be made.
func newScope(ctx context.Context, reader client.Reader, namespaces []string) (scope, error) {
	if len(namespaces) == 0 {
		return scope{all: true}, nil
	}
	var s scope
	for _, namespace := range namespaces {
		switch open, err := mayRead(ctx, reader, namespace); {
		case err != nil:
			return scope{}, err
		case open:
			s.open = append(s.open, namespace)
		default:
			s.closed = append(s.closed, namespace)
		}
	}
	if len(s.open) == 0 {
		return scope{}, fmt.Errorf("--watch-namespaces: none of %s can be read; a RoleBinding %s in each of them lets the manager in",
			strings.Join(namespaces, ", "), controllers.RoleBindingName)
	}
	return s, nil
}

// mayRead reports whether the manager may list in a namespace all that it caches from there.
func mayRead(ctx context.Context, reader client.Reader, namespace string) (bool, error) {
	for _, kind := range []schema.GroupVersionKind{
		corev1.SchemeGroupVersion.WithKind("SecretList"),
		v1alpha1.GroupVersion().WithKind("MqttInstanceList"),
		v1alpha1.GroupVersion().WithKind("MqttTokenGrantList"),
	} {
		list := &metav1.PartialObjectMetadataList{}
		list.SetGroupVersionKind(kind)
		switch err := reader.List(ctx, list, client.InNamespace(namespace), client.Limit(1)); {
		case apierrors.IsForbidden(err):
			return false, nil
		case err != nil:
			return false, fmt.Errorf("looking whether namespace %s can be read: %w", namespace, err)
		}
	}
	return true, nil
}

// recheckClosed is how often the lookout tries: so long a namespace waits for its first grant to be served.
const recheckClosed = 10 * time.Second

// lookout ends the manager when it may read a namespace that it could not watch from its start: what starts it again
// has it watch that one, too. A restart applies for nothing and writes nothing.
type lookout struct {
	reader client.Reader
	closed []string
	clock  clock.WithTicker
	end    func()
}

// Start tries until the manager stops.
func (l *lookout) Start(ctx context.Context) error {
	log := ctrl.Log.WithName("namespaces")
	log.Info("Some namespaces cannot be read, and their grants are not served", "namespaces", l.closed, "missingRoleBinding", controllers.RoleBindingName)
	ticker := l.clock.NewTicker(recheckClosed)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C():
		}
		for _, namespace := range l.closed {
			switch open, err := mayRead(ctx, l.reader, namespace); {
			case err != nil && ctx.Err() == nil:
				log.Error(err, "A namespace cannot be looked at")
			case open:
				log.Info("Starting again to serve a namespace that can be read now", "namespace", namespace)
				l.end()
				return nil
			}
		}
	}
}

// NeedLeaderElection has a manager that stands by know its namespaces, too.
func (l *lookout) NeedLeaderElection() bool { return false }
