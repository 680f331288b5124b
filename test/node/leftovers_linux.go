package node

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Leftovers lists what is still there of a cluster that was stopped: processes, mounts in whatever namespace, and cgroups.
func (n *Node) Leftovers() ([]string, error) {
	if n.cell == nil {
		return nil, nil
	}
	left, err := n.cell.cgroups()
	if err != nil {
		return nil, err
	}
	processes, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return nil, fmt.Errorf("listing processes: %w", err)
	}
	for _, process := range processes {
		if filepath.Base(process) == strconv.Itoa(os.Getpid()) {
			continue
		}
		// One that ends meanwhile leaves nothing to read, which is as good.
		for _, file := range []string{"cmdline", "environ", "mountinfo"} {
			text, err := os.ReadFile(filepath.Join(process, file))
			if err == nil && strings.Contains(string(text), n.options.Folder) {
				left = append(left, filepath.Join(process, file)+" names "+n.options.Folder)
			}
		}
	}
	return left, nil
}
