package node

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"text/template"
	"time"

	"github.com/mqtt-token-operator/mqtt-token-operator/test/cluster"
)

const (
	tailLines = 20
	socket    = "/run/containerd/containerd.sock"
	// imageNamespace is where the kubelet's containerd looks for images.
	imageNamespace = "k8s.io"
	// removeWithin is how long the kernel may take to let go of a cgroup.
	removeWithin = 10 * time.Second
)

//go:embed files
var files embed.FS

// cell is the process and mount namespace that containerd and the kubelet live in.
type cell struct {
	options Options
	process *cluster.Process
	// containers are the folders of those that were there when it was stopped.
	containers []string
}

// settings are what the files are filled in with.
type settings struct {
	Folder, Pause, Runc, ClientCertificate string
	Port                                   int
}

func startCell(ctx context.Context, o Options, kubeconfig, clientCertificate string) (*cell, error) {
	c := &cell{options: o}
	if err := c.furnish(clientCertificate); err != nil {
		return nil, err
	}
	var err error
	c.process, err = cluster.StartProcess(ctx, cluster.Command{
		Name: "cell", Path: "/bin/sh", Arguments: []string{filepath.Join(o.Folder, "cell.sh")}, LogFolder: o.Folder,
		Environment: []string{
			"FOLDER=" + o.Folder, "KUBECONFIG=" + kubeconfig, "NODE=" + Name,
			"CONTAINERD=" + filepath.Join(o.Containerd, containerd), "KUBELET=" + filepath.Join(o.Kubernetes, kubelet),
			"PATH=" + o.Containerd + string(os.PathListSeparator) + os.Getenv("PATH"), // the shim is looked for there
		},
		// It ends with us, however we end.
		Attributes: &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWPID, Pdeathsig: syscall.SIGKILL},
	}, o.OnEnd)
	if err != nil {
		return nil, err
	}
	if err := c.awaitContainerd(ctx); err != nil {
		return nil, errors.Join(err, c.stop())
	}
	return c, nil
}

// furnish lays out what the cell finds at its start.
func (c *cell) furnish(clientCertificate string) error {
	for _, name := range []string{"run", "log", "sysctl", "kubelet", "containerd", "cni"} {
		if err := os.MkdirAll(c.in(name), folderMode); err != nil {
			return fmt.Errorf("making a folder for the node: %w", err)
		}
	}
	runc, err := exec.LookPath("runc")
	if err != nil {
		return fmt.Errorf("looking for runc: %w", err)
	}
	port, err := freePort()
	if err != nil {
		return err
	}
	values := settings{
		Folder: c.options.Folder, Pause: PauseImage, Runc: runc, ClientCertificate: clientCertificate, Port: port,
	}
	contents := map[string]string{"resolv.conf": ""} // there are no names to resolve
	for setting, value := range kernelSettings() {
		contents[filepath.Join("sysctl", setting)] = value + "\n"
	}
	for name, target := range map[string]string{
		"cell.sh": "cell.sh", "containerd.toml": "containerd.toml", "kubelet.yaml": "kubelet.yaml", "network.conflist": "cni/network.conflist",
	} {
		if contents[target], err = fill(name, values); err != nil {
			return err
		}
	}
	for name, text := range contents {
		if err := os.WriteFile(c.in(name), []byte(text), fileMode); err != nil {
			return fmt.Errorf("writing a file for the node: %w", err)
		}
	}
	return nil
}

func fill(name string, values settings) (string, error) {
	text, err := template.ParseFS(files, "files/"+name)
	if err != nil {
		return "", fmt.Errorf("reading %s: %w", name, err)
	}
	var filled strings.Builder
	if err := text.Execute(&filled, values); err != nil {
		return "", fmt.Errorf("filling in %s: %w", name, err)
	}
	return filled.String(), nil
}

// kernelSettings are those that a kubelet insists on.
func kernelSettings() map[string]string {
	return map[string]string{
		"vm.overcommit_memory": "1", "vm.panic_on_oom": "0", "kernel.panic": "10", "kernel.panic_on_oops": "1",
		"kernel.keys.root_maxkeys": "1000000", "kernel.keys.root_maxbytes": "25000000",
	}
}

func freePort() (int, error) {
	listener, err := net.Listen("tcp", Name+":0")
	if err != nil {
		return 0, fmt.Errorf("finding a port for the kubelet: %w", err)
	}
	_, text, err := net.SplitHostPort(listener.Addr().String())
	if err := errors.Join(err, listener.Close()); err != nil {
		return 0, fmt.Errorf("finding a port for the kubelet: %w", err)
	}
	return strconv.Atoi(text)
}

func (c *cell) in(name string) string { return filepath.Join(c.options.Folder, name) }

// awaitContainerd waits until containerd answers, or the cell is gone.
func (c *cell) awaitContainerd(ctx context.Context) error {
	err := cluster.Eventually(ctx, startWithin, func() (string, error) {
		select {
		case <-c.process.Ended():
			return "", errors.New("the node ended at its start")
		default:
		}
		return textOf(c.run(ctx, "version")), nil
	})
	if err != nil {
		return fmt.Errorf("starting containerd: %w\n%s", err, c.process.Tail(tailLines))
	}
	return nil
}

// textOf is what an error says, which may be nothing.
func textOf(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func (c *cell) load(ctx context.Context, archive string) error {
	return c.run(ctx, "--namespace", imageNamespace, "images", "import", "--local", "--snapshotter", "native", archive)
}

// run runs containerd's client in the cell, where its socket is.
func (c *cell) run(ctx context.Context, arguments ...string) error {
	entered := []string{"--target", strconv.Itoa(c.process.ID()), "--mount", "--pid", filepath.Join(c.options.Containerd, ctr), "--address", socket}
	_, err := cluster.Run(ctx, "nsenter", append(entered, arguments...)...)
	return err
}

// stop ends the cell and deletes what it had, save for the logs.
func (c *cell) stop() error {
	c.process.Stop()
	var err error
	if c.containers, err = filepath.Glob(c.in("run/containerd/io.containerd.runtime.v2.task/" + imageNamespace + "/*")); err != nil {
		return fmt.Errorf("listing containers: %w", err)
	}
	faults := []error{c.removeCgroups()}
	for _, name := range []string{"run", "sysctl", "kubelet", "containerd", "cni"} {
		faults = append(faults, os.RemoveAll(c.in(name)))
	}
	return errors.Join(faults...)
}

// cgroups lists those of the containers that were there at the end. They are folders, at one place, or in every hierarchy
// where cgroups are of the old kind; nobody removes them once the shims are gone.
func (c *cell) cgroups() ([]string, error) {
	var found []string
	for _, container := range c.containers {
		for _, top := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/*"} {
			some, err := filepath.Glob(filepath.Join(top, imageNamespace, filepath.Base(container)))
			if err != nil {
				return nil, fmt.Errorf("looking for cgroups: %w", err)
			}
			found = append(found, some...)
		}
	}
	return found, nil
}

// removeCgroups removes them as soon as the kernel has seen the last of their processes off.
func (c *cell) removeCgroups() error {
	return cluster.Eventually(context.Background(), removeWithin, func() (string, error) {
		left, err := c.cgroups()
		var busy error
		for _, folder := range left {
			busy = errors.Join(busy, os.Remove(folder))
		}
		return textOf(busy), err
	})
}

// installed checks what must come with the system.
func installed() []error {
	var faults []error
	for program, from := range map[string]string{"runc": "runc", "nsenter": "util-linux", "mount": "mount"} {
		if _, err := exec.LookPath(program); err != nil {
			faults = append(faults, fmt.Errorf("%s is not installed (Debian: apt-get install %s)", program, from))
		}
	}
	return faults
}
