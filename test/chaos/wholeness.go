package main

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/mqtt-token-operator/mqtt-token-operator/internal/credsecret"
	"github.com/mqtt-token-operator/mqtt-token-operator/pkg/mqttcred"
)

// defect says what a reader would miss in a token Secret; nothing if it is whole. A Secret without tokens is whole if it
// says so: its client is held or denied.
func defect(secret *corev1.Secret) string {
	if secret.Type != credsecret.Type {
		return fmt.Sprintf("its type is %q", secret.Type)
	}
	record, err := credsecret.ReadRecord(secret)
	if err != nil {
		return err.Error()
	}
	always, withTokens, password := keysOf(secret)
	for _, key := range always {
		if len(secret.Data[key]) == 0 {
			return "it lacks " + key
		}
	}
	for _, key := range withTokens {
		if has := len(secret.Data[key]) > 0; has != (len(record.Tokens) > 0) {
			return fmt.Sprintf("it holds %d tokens, and %s: %v", len(record.Tokens), key, has)
		}
	}
	if !samePassword(string(secret.Data[password]), record) {
		return "its password is not made of its tokens"
	}
	return ""
}

func keysOf(secret *corev1.Secret) (always, withTokens []string, password string) {
	if _, env := secret.Data[mqttcred.EnvRecord]; env {
		return []string{mqttcred.EnvUsername, mqttcred.EnvClientID, mqttcred.EnvHost, mqttcred.EnvPort, mqttcred.EnvURL, mqttcred.EnvCA},
			[]string{mqttcred.EnvPassword, mqttcred.EnvExpiresAt, mqttcred.EnvRenewAt}, mqttcred.EnvPassword
	}
	return []string{
			mqttcred.KeyUsername, mqttcred.KeyClientID, mqttcred.KeyHost, mqttcred.KeyPort, mqttcred.KeyURL, mqttcred.KeyCA,
			mqttcred.KeyTokens, mqttcred.KeyPermissions, mqttcred.KeyRetired,
		},
		[]string{mqttcred.KeyPassword, mqttcred.KeyExpiresAt, mqttcred.KeyRenewAt}, mqttcred.KeyPassword
}

func samePassword(password string, record credsecret.Record) bool {
	var want, got []string
	for _, t := range record.Tokens {
		want = append(want, t.Value.Reveal())
	}
	for i, part := range strings.Split(password, "|") {
		if i%2 == 1 {
			got = append(got, part)
		}
	}
	slices.Sort(want)
	slices.Sort(got)
	return slices.Equal(want, got)
}
