package main

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/mqtt-token-operator/mqtt-token-operator/api/v1alpha1"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/killpoint"
	"github.com/mqtt-token-operator/mqtt-token-operator/test/cluster"
)

const (
	// killed and terminated say how we ended a manager.
	killed     = "killed"
	terminated = "terminated"

	// leaderWithin is longer than a lease that nobody gave up.
	leaderWithin = 40 * time.Second
	// pointWithin is how long a manager may take to get to the point where it is to die.
	pointWithin = 25 * time.Second
	// pointAtMost bounds that with the time in which there is trouble.
	pointAtMost = 90 * time.Second
	// workEvery is how often there is new work that leads there.
	workEvery = 2 * time.Second
	// freezeFor is longer than a lease, so that another manager leads when the frozen one goes on.
	freezeFor = 20 * time.Second
	// readyWithin is how long the next one may take to let a client back meanwhile.
	readyWithin = 15 * time.Second
)

var errNoLeader = errors.New("nobody leads")

func (w *world) processFaults() map[kind]inject {
	return map[kind]inject{
		killLeader: w.killLeader, endLeader: w.endLeader, freezeLeader: w.freezeLeader,
		killAfterApply:      w.killAt(killpoint.AfterApply, 6),
		killAfterSecret:     w.killAt(killpoint.AfterSecret, 6),
		killAfterStatus:     w.killAt(killpoint.AfterStatus, 8),
		killAfterLedger:     w.killAt(killpoint.AfterLedger, 2),
		killAfterRevoke:     w.killAt(killpoint.AfterRevoke, 2),
		killBeforeFinalizer: w.killAt(killpoint.BeforeFinalizer, 1),
		restartAPIServer:    w.restartAPI(false), killAPIServer: w.restartAPI(true),
		freezeAPIServer: w.freezeAPI, freezeStore: w.freezeStore,
	}
}

// awaitLeader waits until a manager leads.
func (w *world) awaitLeader(ctx context.Context) (*manager, error) {
	var leader *manager
	err := cluster.Eventually(ctx, leaderWithin, func() (string, error) {
		if leader = w.managers.leader(); leader == nil {
			return errNoLeader.Error(), nil
		}
		return "", nil
	})
	return leader, err
}

func (w *world) killLeader(ctx context.Context, f fault) (string, error) {
	leader, err := w.awaitLeader(ctx)
	if err != nil {
		return "", err
	}
	wait(f.between(0, 0, 3*time.Second))
	if err := w.managers.end(leader, killed, syscall.SIGKILL); err != nil {
		return "", err
	}
	return leader.name, nil
}

// endLeader asks the leader to end, and measures how long it takes until another leads.
func (w *world) endLeader(ctx context.Context, _ fault) (string, error) {
	leader, err := w.awaitLeader(ctx)
	if err != nil {
		return "", err
	}
	took, err := w.handOver(ctx, leader)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%s; another led %s later", leader.name, took.Round(100*time.Millisecond)), nil
}

func (w *world) handOver(ctx context.Context, leader *manager) (time.Duration, error) {
	began := time.Now()
	if err := w.managers.end(leader, terminated, syscall.SIGTERM); err != nil {
		return 0, err
	}
	if _, err := w.awaitLeader(ctx); err != nil {
		return 0, err
	}
	took := time.Since(began)
	w.settings.update(func(s *figures) { s.takeover = max(s.takeover, took) })
	return took, nil
}

func (w *world) freezeLeader(ctx context.Context, f fault) (string, error) {
	leader, err := w.awaitLeader(ctx)
	if err != nil {
		return "", err
	}
	key := f.target(0)
	if _, err := w.putOnHold(ctx, key); err != nil {
		return "", err
	}
	if err := w.awaitHeld(ctx, key); err != nil {
		return "", errors.Join(err, w.letBack(ctx, key))
	}
	if err := w.managers.freeze(leader, true); err != nil {
		return "", errors.Join(err, w.letBack(ctx, key))
	}
	w.interrupted(time.Now())
	wait(freezeFor)
	after, err := w.outdate(ctx, key)
	w.interrupted(time.Now()) // it may send the call that it was about to send
	if err := errors.Join(err, w.managers.freeze(leader, false)); err != nil {
		return "", err
	}
	return fmt.Sprintf("%s for %s; meanwhile %s", leader.name, freezeFor, after), nil
}

// outdate lifts a hold that a frozen leader knows of, and lets the next one issue tokens that it does not know of: nobody
// may take those away when the first one goes on. It returns who leads, and what came of that.
func (w *world) outdate(ctx context.Context, held types.NamespacedName) (string, error) {
	after := w.managers.leader()
	if err := client.IgnoreNotFound(w.letBack(ctx, held)); err != nil {
		return "", err
	}
	if after == nil {
		return "nobody led", nil
	}
	if err := errors.Join(w.awaitCondition(ctx, held, v1alpha1.ReadyCondition, readyWithin), w.awaitTrust(ctx, held)); err != nil {
		return fmt.Sprintf("%s led, and %v", after.name, err), nil // another lane may have deleted it, or made trouble
	}
	return fmt.Sprintf("%s led and let %s back", after.name, held), nil
}

// awaitTrust waits until the run has seen that a grant has access: from then on it may not lose it.
func (w *world) awaitTrust(ctx context.Context, key types.NamespacedName) error {
	return cluster.Eventually(ctx, readyWithin, func() (string, error) {
		if w.isExcused(key) {
			return key.String() + " was not seen to have access", nil
		}
		return "", nil
	})
}

// killAt has a manager lead that dies at a point, and gives it work that leads there.
func (w *world) killAt(point killpoint.Point, most int) inject {
	return func(ctx context.Context, f fault) (string, error) {
		text := armed(point, 1+f.among(0, most))
		doomed, err := w.armStandby(ctx, text) // while the lease of the one before it runs out
		if err != nil {
			return "", err
		}
		if err := w.makeLead(ctx, doomed); err != nil {
			return "", err
		}
		if !w.leadTo(ctx, f, point, doomed) {
			return fmt.Sprintf("%s did not get to %s", doomed.name, text), w.managers.end(doomed, terminated, syscall.SIGTERM)
		}
		w.settings.update(func(s *figures) { s.reached[point]++ })
		return fmt.Sprintf("%s died at %s", doomed.name, text), nil
	}
}

// makeLead has others give the lease up until a manager has it, or had it and died. Who gets it is for chance to say.
func (w *world) makeLead(ctx context.Context, chosen *manager) error {
	for {
		leader, err := w.awaitLeader(ctx)
		if err != nil || leader == chosen || chosen.ended() {
			return err
		}
		if _, err := w.handOver(ctx, leader); err != nil {
			return err
		}
	}
}

// leadTo makes work that leads a manager to a point until it dies there. Time in which it cannot work does not count.
func (w *world) leadTo(ctx context.Context, f fault, point killpoint.Point, doomed *manager) bool {
	ctx, cancel := context.WithTimeout(ctx, pointAtMost)
	defer cancel()
	for began := w.upTime(); ctx.Err() == nil && w.upTime()-began < pointWithin; f.dice[0]++ {
		if !w.isTroubled() {
			if err := w.makeWork(ctx, f, point); err != nil {
				w.say("  %v", err) // the other lane may have deleted that one; there are more
			}
		}
		select {
		case <-doomed.process.Ended():
			return doomed.how == ""
		case <-time.After(workEvery):
		}
	}
	return false
}

func (w *world) isTroubled() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.troubled) > 0
}

func (w *world) upTime() time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.up
}

// armStandby replaces the standby by one that dies at a point.
func (w *world) armStandby(ctx context.Context, text string) (*manager, error) {
	standby := w.managers.standby()
	w.managers.arm(text)
	if standby != nil {
		if err := w.managers.end(standby, terminated, syscall.SIGTERM); err != nil {
			return nil, err
		}
	}
	var doomed *manager
	err := cluster.Eventually(ctx, leaderWithin, func() (string, error) {
		w.managers.mu.Lock()
		defer w.managers.mu.Unlock()
		for _, m := range w.managers.all {
			if m.armed == text && !m.ended() {
				doomed = m
				return "", nil
			}
		}
		return "the standby has not started", nil
	})
	wait(2 * time.Second) // it reads what there is
	return doomed, err
}

// makeWork leads to a point that is rarely reached by itself.
func (w *world) makeWork(ctx context.Context, f fault, point killpoint.Point) error {
	if point != killpoint.BeforeFinalizer {
		_, err := w.reissue(ctx, f)
		return err
	}
	w.errands.Go(func() {
		if _, err := w.deleteGrant(context.WithoutCancel(ctx), f); err != nil {
			w.say("  %v", err)
		}
	})
	return nil
}

func (w *world) restartAPI(atOnce bool) inject {
	return func(context.Context, fault) (string, error) {
		w.trouble("api", true)
		defer w.trouble("api", false)
		if !atOnce && w.cluster.RestartAPIServer(false) == nil {
			return "it ended in its own time, and is back", nil
		}
		// It waits for its watches to end, and is killed if that takes too long.
		if err := w.cluster.RestartAPIServer(true); err != nil {
			return "", err
		}
		return "it was killed, and is back", nil
	}
}

func (w *world) freezeAPI(_ context.Context, f fault) (string, error) {
	return w.freezePart(f, w.cluster.FreezeAPIServer, w.cluster.ThawAPIServer)
}

func (w *world) freezeStore(_ context.Context, f fault) (string, error) {
	return w.freezePart(f, w.cluster.FreezeStore, w.cluster.ThawStore)
}

func (w *world) freezePart(f fault, freeze, thaw func() error) (string, error) {
	w.trouble("api", true)
	defer w.trouble("api", false)
	lasts := f.between(1, time.Second, 3*time.Second)
	if err := freeze(); err != nil {
		return "", err
	}
	wait(lasts)
	return lasts.String(), thaw()
}
