package controllers

import (
	"context"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"
)

// signal wakes a controller about objects that no watch tells of. What is sent before the controller starts is lost,
// which is right: a starting controller looks at every object anyway.
type signal struct {
	mu    sync.Mutex
	reach func(types.NamespacedName)
}

// source lets the controller that is built with it receive the signal; keys says which of its objects a sent name
// concerns.
func (s *signal) source(keys func(context.Context, types.NamespacedName) []reconcile.Request) source.Source {
	return s.sourceAfter(0, keys)
}

// sourceAfter is source for what can wait: all that is sent within the delay costs one look.
func (s *signal) sourceAfter(delay time.Duration, keys func(context.Context, types.NamespacedName) []reconcile.Request) source.Source {
	return source.Func(func(ctx context.Context, queue workqueue.TypedRateLimitingInterface[reconcile.Request]) error {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.reach = func(name types.NamespacedName) {
			for _, request := range keys(ctx, name) {
				queue.AddAfter(request, delay)
			}
		}
		return nil
	})
}

func (s *signal) send(name types.NamespacedName) {
	s.mu.Lock()
	reach := s.reach
	s.mu.Unlock()
	if reach != nil {
		reach(name)
	}
}

// itself is for signals whose names are the controller's own objects.
func itself(_ context.Context, name types.NamespacedName) []reconcile.Request {
	return []reconcile.Request{{NamespacedName: name}}
}
