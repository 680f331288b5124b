package main

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

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
	// freezeFor is longer than a lease, so that another manager leads when the frozen one goes on.
	freezeFor = 20 * time.Second
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
	wait(f.between(0, time.Second, 3*time.Second))
	if err := w.managers.freeze(leader, true); err != nil {
		return "", err
	}
	wait(freezeFor)
	after := w.managers.leader()
	if err := w.managers.freeze(leader, false); err != nil {
		return "", err
	}
	next := "nobody"
	if after != nil {
		next = after.name
	}
	return fmt.Sprintf("%s for %s; %s led by then", leader.name, freezeFor, next), nil
}

// killAt has a manager lead that dies at a point, and gives it work that leads there.
func (w *world) killAt(point killpoint.Point, most int) inject {
	return func(ctx context.Context, f fault) (string, error) {
		if _, err := w.awaitLeader(ctx); err != nil {
			return "", err
		}
		text := armed(point, 1+f.among(0, most))
		doomed, err := w.armStandby(ctx, text)
		if err != nil {
			return "", err
		}
		if leader := w.managers.leader(); leader != nil && leader != doomed {
			if _, err := w.handOver(ctx, leader); err != nil {
				return "", err
			}
		}
		if err := w.makeWork(ctx, f, point); err != nil {
			return "", err
		}
		select {
		case <-doomed.process.Ended():
			return fmt.Sprintf("%s died at %s", doomed.name, text), nil
		case <-time.After(pointWithin):
		}
		return fmt.Sprintf("%s did not get to %s", doomed.name, text), w.managers.end(doomed, terminated, syscall.SIGTERM)
	}
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
	var err error
	switch point {
	case killpoint.AfterLedger, killpoint.AfterRevoke:
		_, err = w.reissue(ctx, f)
		if err == nil {
			f.dice[0]++
			_, err = w.reissue(ctx, f)
		}
		if err == nil {
			f.dice[0]++
			_, err = w.reissue(ctx, f)
		}
	case killpoint.BeforeFinalizer:
		go func() {
			if _, err := w.deleteGrant(ctx, f); err != nil {
				w.say("  %v", err)
			}
		}()
	case killpoint.AfterApply, killpoint.AfterSecret, killpoint.AfterStatus:
		f.dice[0]++
		_, err = w.reissue(ctx, f)
	}
	return err
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
