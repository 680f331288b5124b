package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/mqtt-token-operator/mqtt-token-operator/internal/killpoint"
	"github.com/mqtt-token-operator/mqtt-token-operator/test/cluster"
)

const (
	replicas = 2
	// restartAfter is how long a manager that ended stays away, as kubelet would have it.
	restartAfter = time.Second
	// acquiredLease is what client-go logs when a process has become the leader.
	acquiredLease = "Successfully acquired lease"
	armVariable   = "MQTT_KILLPOINT"
)

// manager is one process of the operator.
type manager struct {
	process *cluster.Process
	name    string
	armed   string
	frozen  bool
	leads   bool
	how     string // how we ended it; empty: by itself
}

func (m *manager) ended() bool {
	select {
	case <-m.process.Ended():
		return true
	default:
		return false
	}
}

// managers keeps a number of managers running, whatever happens to them.
type managers struct {
	start   func(name, armed string) (*cluster.Process, error)
	onDeath func(m *manager, at time.Time)

	mu      sync.Mutex
	all     [replicas]*manager
	armNext string
	started int
	closed  bool
	logs    []string
	running sync.WaitGroup
}

// run starts all, and starts each again when it has ended, until the context does.
func (ms *managers) run(ctx context.Context) error {
	for slot := range replicas {
		if err := ms.launch(slot); err != nil {
			return err
		}
		ms.running.Go(func() { ms.keep(ctx, slot) })
	}
	return nil
}

func (ms *managers) launch(slot int) error {
	ms.mu.Lock()
	defer ms.mu.Unlock()
	ms.started++
	m := &manager{name: fmt.Sprintf("manager-%03d", ms.started), armed: ms.armNext}
	ms.armNext = ""
	var err error
	if m.process, err = ms.start(m.name, m.armed); err != nil {
		return err
	}
	ms.logs = append(ms.logs, m.process.Log)
	ms.all[slot] = m
	return nil
}

func (ms *managers) keep(ctx context.Context, slot int) {
	for {
		ms.mu.Lock()
		m := ms.all[slot]
		ms.mu.Unlock()
		<-m.process.Ended()
		at := time.Now()
		ms.mu.Lock()
		closed := ms.closed
		ms.mu.Unlock()
		if closed {
			return
		}
		ms.onDeath(m, at)
		select {
		case <-ctx.Done():
			return
		case <-time.After(restartAfter):
		}
		if ms.launch(slot) != nil {
			return
		}
	}
}

// leader returns the manager that leads; nil without one.
func (ms *managers) leader() *manager {
	ms.mu.Lock()
	defer ms.mu.Unlock()
	for _, m := range ms.all {
		if m != nil && !m.ended() && !m.frozen && m.hasLease() {
			return m
		}
	}
	return nil
}

// standby returns a manager that runs and does not lead.
func (ms *managers) standby() *manager {
	ms.mu.Lock()
	defer ms.mu.Unlock()
	for _, m := range ms.all {
		if m != nil && !m.ended() && !m.frozen && !m.hasLease() {
			return m
		}
	}
	return nil
}

// hasLease reads the process's own log: whoever loses the lease ends.
func (m *manager) hasLease() bool {
	if !m.leads {
		text, err := os.ReadFile(m.process.Log)
		m.leads = err == nil && bytes.Contains(text, []byte(acquiredLease))
	}
	return m.leads
}

// end ends a process by a signal and waits until it is gone.
func (ms *managers) end(m *manager, how string, s syscall.Signal) error {
	ms.mu.Lock()
	m.how = how
	ms.mu.Unlock()
	if err := m.process.Signal(s); err != nil {
		return err
	}
	<-m.process.Ended()
	return nil
}

// freeze stops a process where it is, or lets it go on.
func (ms *managers) freeze(m *manager, frozen bool) error {
	ms.mu.Lock()
	m.frozen = frozen
	ms.mu.Unlock()
	if frozen {
		return m.process.Signal(syscall.SIGSTOP)
	}
	return m.process.Signal(syscall.SIGCONT)
}

// armed names the environment of a process that is to die at a point.
func armed(point killpoint.Point, times int) string { return fmt.Sprintf("%s:%d", point, times) }

// arm has the next process that starts die at a point.
func (ms *managers) arm(text string) {
	ms.mu.Lock()
	defer ms.mu.Unlock()
	ms.armNext = text
}

// close ends all for good, and returns the logs of all that ever ran.
func (ms *managers) close() []string {
	ms.mu.Lock()
	ms.closed = true
	all := ms.all
	ms.mu.Unlock()
	for _, m := range all {
		if m != nil {
			_ = m.process.Signal(syscall.SIGCONT) //nolint:errcheck // it may not be frozen, or gone
			m.process.Stop()
		}
	}
	ms.running.Wait()
	return ms.logFiles()
}

func (ms *managers) logFiles() []string {
	ms.mu.Lock()
	defer ms.mu.Unlock()
	return slices.Clone(ms.logs)
}
