package cluster

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
)

// RestartAPIServer ends kube-apiserver, at once or in its own time, and starts it again on the same data.
func (c *Cluster) RestartAPIServer(atOnce bool) error {
	server := c.environment.ControlPlane.GetAPIServer()
	if atOnce {
		if err := c.signal(apiServer, syscall.SIGKILL); err != nil {
			return err
		}
	} else if err := server.Stop(); err != nil {
		return fmt.Errorf("stopping kube-apiserver: %w", err)
	}
	if err := server.Start(); err != nil {
		return fmt.Errorf("starting kube-apiserver again: %w", err)
	}
	return nil
}

// FreezeAPIServer stops kube-apiserver where it is: connections stay open, and nobody answers.
func (c *Cluster) FreezeAPIServer() error { return c.signal(apiServer, syscall.SIGSTOP) }

// ThawAPIServer lets kube-apiserver go on.
func (c *Cluster) ThawAPIServer() error { return c.signal(apiServer, syscall.SIGCONT) }

// FreezeStore stops etcd where it is: the API server takes no write, and answers only what is in its caches.
func (c *Cluster) FreezeStore() error { return c.signal(etcd, syscall.SIGSTOP) }

// ThawStore lets etcd go on.
func (c *Cluster) ThawStore() error { return c.signal(etcd, syscall.SIGCONT) }

func (c *Cluster) signal(program string, s syscall.Signal) error {
	text, err := os.ReadFile(c.options.processID(program))
	if err != nil {
		return fmt.Errorf("finding %s: %w", program, err)
	}
	id, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return fmt.Errorf("finding %s: %w", program, err)
	}
	if err := syscall.Kill(id, s); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("sending %s to %s: %w", s, program, err)
	}
	return nil
}
