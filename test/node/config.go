package node

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"text/template"
)

// What this machine may lack is left out: a cgroup for each pod, quotas of disk space, a score for the OOM killer that
// only the machine's owner may lower. Nothing of it changes what a pod sees.
const containerdTemplate = `version = 3
root = "{{.Folder}}/containerd"
state = "{{.Folder}}/containerd-state"

[grpc]
address = "{{.Socket}}"

[ttrpc]
address = "{{.Socket}}.ttrpc"

[plugins.'io.containerd.cri.v1.images']
snapshotter = "native"

[plugins.'io.containerd.cri.v1.images'.pinned_images]
sandbox = "{{.Sandbox}}"

[plugins.'io.containerd.cri.v1.runtime']
restrict_oom_score_adj = true

[plugins.'io.containerd.cri.v1.runtime'.cni]
bin_dirs = ["{{.Folder}}/cni/bin"]
conf_dir = "{{.Folder}}/cni"

[plugins.'io.containerd.cri.v1.runtime'.containerd]
default_runtime_name = "runc"

[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"

[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
BinaryName = "{{.Runc}}"
SystemdCgroup = false

[plugins.'io.containerd.grpc.v1.cri']
stream_server_address = "127.0.0.1"
`

const kubeletTemplate = `apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
containerRuntimeEndpoint: unix://{{.Socket}}
enableServer: false
healthzPort: 0
cgroupDriver: cgroupfs
cgroupsPerQOS: false
enforceNodeAllocatable: []
failCgroupV1: false
failSwapOn: false
localStorageCapacityIsolation: false
podLogsDir: {{.Logs}}
volumePluginDir: {{.Folder}}/volume-plugins
clusterDNS: []
evictionHard: {memory.available: 1Mi, nodefs.available: 1Mi, nodefs.inodesFree: "1", imagefs.available: 1Mi, imagefs.inodesFree: "1"}
imageGCHighThresholdPercent: 100
`

func (n *Node) runtimeConfig() (string, error) {
	found, err := exec.LookPath(runc)
	if err != nil {
		return "", errors.New("runc is not installed; on Debian: apt-get install runc")
	}
	return n.write("containerd.toml", containerdTemplate, map[string]string{
		"Folder": n.options.Folder, "Socket": n.socket(), "Sandbox": SandboxImage, "Runc": found,
	})
}

func (n *Node) kubeletConfig() (string, error) {
	return n.write("kubelet.yaml", kubeletTemplate, map[string]string{"Folder": n.options.Folder, "Socket": n.socket(), "Logs": n.Logs()})
}

// write fills a template in and writes it into a file.
func (n *Node) write(name, text string, values map[string]string) (string, error) {
	filled, err := template.New(name).Option("missingkey=error").Parse(text)
	if err != nil {
		return "", fmt.Errorf("reading the template of %s: %w", name, err)
	}
	path := filepath.Join(n.options.Folder, name)
	file, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, fileMode)
	if err != nil {
		return "", fmt.Errorf("writing %s: %w", name, err)
	}
	return path, errors.Join(filled.Execute(file, values), file.Close())
}
