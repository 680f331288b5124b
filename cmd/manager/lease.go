package main

import (
	"fmt"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
	"k8s.io/client-go/tools/record"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/leaderelection"
	"sigs.k8s.io/controller-runtime/pkg/recorder"
)

// leaseName names the lease that the managers of one installation share.
const leaseName = "mqtt-token-operator"

// newLock makes the lock that controller-runtime would make by itself, and has the fence learn of each renewal. Whoever
// makes the manager sets the recorder of the events that the lock records through.
func newLock(config *rest.Config, namespace string, fence *fence, now func() time.Time) (resourcelock.Interface, *lockEvents, error) {
	events := &lockEvents{}
	lock, err := leaderelection.NewResourceLock(rest.CopyConfig(config), events, leaderelection.Options{
		LeaderElection: true, LeaderElectionID: leaseName, LeaderElectionNamespace: namespace, RenewDeadline: renewDeadline,
	})
	if err != nil {
		return nil, nil, fmt.Errorf("making the lease's lock: %w", err)
	}
	return &fencedLock{Interface: lock, fence: fence, now: now}, events, nil
}

// lockEvents stands in for a manager's recorders until there is one: the manager needs the lock, and the lock a recorder.
// Nothing is recorded before the manager starts.
type lockEvents struct {
	recorder.Provider
	record.EventRecorder
}

// GetEventRecorderFor implements recorder.Provider.
func (e *lockEvents) GetEventRecorderFor(string) record.EventRecorder { return e }

// recordBy has the events of a lock recorded by the manager, under the name that controller-runtime gives them.
func (e *lockEvents) recordBy(mgr ctrl.Manager, lock resourcelock.Interface) {
	e.Provider = mgr
	e.EventRecorder = mgr.GetEventRecorderFor(lock.Identity()) //nolint:staticcheck // A lock takes no recorder of the new kind.
}
