package node

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/mqtt-token-operator/mqtt-token-operator/test/cluster"
)

// goneWithin is how long what was killed may take to be gone.
const goneWithin = 15 * time.Second

// Stop ends everything that the node started, in an order in which nothing starts anew, and unmounts what it mounted. What
// pods there are is killed.
func (n *Node) Stop(ctx context.Context) error {
	for _, part := range []*cluster.Process{n.kubelet, n.scheduler} {
		if part != nil {
			part.Stop()
		}
	}
	faults := []error{n.killContainers(ctx)}
	if n.runtime != nil {
		n.runtime.Stop()
	}
	faults = append(faults, n.killRest(ctx), n.unmount())
	if n.Cluster != nil {
		faults = append(faults, n.Cluster.Stop())
	}
	return errors.Join(faults...)
}

// killContainers kills every container, and has the runtime forget it.
func (n *Node) killContainers(ctx context.Context) error {
	if n.runtime == nil {
		return nil
	}
	return cluster.Eventually(ctx, goneWithin, func() (string, error) {
		text, err := n.ctr(ctx, "--namespace=k8s.io", "tasks", "ls", "-q")
		if err != nil {
			return "", nil //nolint:nilerr // without a runtime, killRest finds what is left
		}
		tasks := strings.Fields(text)
		var failure error
		for _, id := range tasks {
			_, killing := n.ctr(ctx, "--namespace=k8s.io", "tasks", "kill", "--all", "--signal=SIGKILL", id)
			_, deleting := n.ctr(ctx, "--namespace=k8s.io", "tasks", "delete", "--force", id)
			failure = errors.Join(killing, deleting)
		}
		if len(tasks) > 0 { // the next look tells; what has ended meanwhile could not be killed
			return fmt.Sprintf("%d containers run: %v", len(tasks), failure), nil
		}
		return "", nil
	})
}

// killRest kills the processes that were started from the folder and are left, shims above all.
func (n *Node) killRest(ctx context.Context) error {
	return cluster.Eventually(ctx, goneWithin, func() (string, error) {
		left, err := n.shims()
		for _, id := range left {
			err = errors.Join(err, ignoreGone(syscall.Kill(id, syscall.SIGKILL)))
		}
		if err != nil || len(left) == 0 {
			return "", err
		}
		return fmt.Sprintf("processes %v run", left), nil
	})
}

func ignoreGone(err error) error {
	if errors.Is(err, syscall.ESRCH) {
		return nil
	}
	return err
}

// shims finds the runtime's shims that serve this node: each names its socket.
func (n *Node) shims() ([]int, error) {
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		return nil, err
	}
	var found []int
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil || !strings.Contains(string(text), shim) || !strings.Contains(string(text), n.socket()) {
			continue // it may have ended
		}
		id, err := strconv.Atoi(strings.Split(file, "/")[2])
		if err != nil {
			return nil, err
		}
		found = append(found, id)
	}
	return found, nil
}

// unmount unmounts everything below the folder, what was mounted last first.
func (n *Node) unmount() error {
	mounts, err := mountsBelow(n.options.Folder)
	for _, point := range slices.Backward(mounts) {
		if failure := syscall.Unmount(point, syscall.MNT_DETACH); failure != nil {
			err = errors.Join(err, fmt.Errorf("unmounting %s: %w", point, failure))
		}
	}
	return err
}

// mountsBelow lists where something is mounted below a folder, in the order in which it was.
func mountsBelow(folder string) (points []string, err error) {
	file, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	for lines := bufio.NewScanner(file); lines.Scan(); {
		// 36 35 98:0 /mnt1 /mnt2 rw,noatime ...: the fifth field is where; see proc_pid_mountinfo(5).
		if fields := strings.Fields(lines.Text()); len(fields) > 4 && strings.HasPrefix(fields[4], folder+"/") {
			points = append(points, fields[4])
		}
	}
	return points, nil
}
