package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/mqtt-token-operator/mqtt-token-operator/pkg/mqttcred"
	"github.com/mqtt-token-operator/mqtt-token-operator/test/cluster"
)

const (
	mosquittoPublisher = "mosquitto_pub"
	ownerOnly          = 0o600
)

// publishByMosquitto publishes once with Mosquitto's client and the files of a mounted Secret. The options go by a file
// of their own, because everybody can see a command line. It reports false where there is no such client.
func publishByMosquitto(ctx context.Context, folder, topic, message string) (done bool, err error) {
	path, err := exec.LookPath(mosquittoPublisher)
	if err != nil {
		return false, nil //nolint:nilerr // Nothing depends on it.
	}
	files, err := mqttcred.Load(folder)
	if err != nil {
		return false, err
	}
	settings, err := os.MkdirTemp(folder, "..settings-")
	if err != nil {
		return false, fmt.Errorf("making a folder for options: %w", err)
	}
	options := fmt.Sprintf("-h %s\n-p %s\n-i %s\n-u %s\n-P %s\n--cafile %s\n",
		files.Host, files.Port, files.ClientID, files.Username, files.Password, filepath.Join(folder, mqttcred.KeyCA))
	err = os.WriteFile(filepath.Join(settings, mosquittoPublisher), []byte(options), ownerOnly)
	if err == nil {
		_, err = cluster.Run(ctx, "env", "XDG_CONFIG_HOME="+settings, path, "-q", "1", "-t", topic, "-m", message)
	}
	return true, errors.Join(err, os.RemoveAll(settings))
}
