package main

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"
	"sigs.k8s.io/yaml"

	"github.com/mqtt-token-operator/mqtt-token-operator/internal/simulator/state"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/simulator/wire"
)

// freePorts makes every port any free one.
func freePorts(more ...string) []string {
	arguments := make([]string, 0, 6+len(more))
	for _, flag := range []string{"api", "admin", "mqtt", "mqtts", "ws", "wss"} {
		arguments = append(arguments, "--"+flag+"-address=127.0.0.1:0")
	}
	return append(arguments, more...)
}

// parse reads flags as run does.
func parse(t *testing.T, arguments ...string) *options {
	t.Helper()
	var o options
	flags := pflag.NewFlagSet("simulator", pflag.ContinueOnError)
	o.addFlags(flags)
	if err := flags.Parse(arguments); err != nil {
		t.Fatal(err)
	}
	return &o
}

func TestFlags(t *testing.T) {
	o := parse(t, "--access-key=a/k1/s1", "--access-key=b/k2/s2", "--access-key=a/STS.k3/s3/token/with/slashes",
		"--role=a/machine", "--role=b/mqtt/ack/system:serviceaccount:x:y",
		"--instance=a/cn-hangzhou/post-cn-a/factory/office", "--instance=b/cn-beijing/post-cn-b",
		"--quota-apply=0", "--cut-on-next-use", "--revocation-delay=2s", "--latency=1s", "--clock-skew=-20m",
		`--fault={"kind":"DropReply","times":2}`)
	got, err := o.simulator()
	if err != nil {
		t.Fatal(err)
	}
	var keys []string
	var roles []state.Role
	for _, account := range got.Accounts {
		roles = append(roles, account.Roles...)
		for _, key := range account.Keys {
			keys = append(keys, account.ID+" "+key.ID+" "+key.Secret.Reveal()+" "+key.SecurityToken.Reveal())
		}
	}
	if diff := cmp.Diff([]string{"a k1 s1 ", "a STS.k3 s3 token/with/slashes", "b k2 s2 "}, keys); diff != "" {
		t.Error(diff)
	}
	wantRoles := []state.Role{
		{ARN: "acs:ram::a:role/machine"},
		{ARN: "acs:ram::b:role/mqtt", OIDCProviderARN: "acs:ram::b:oidc-provider/ack", OIDCSubject: "system:serviceaccount:x:y"},
	}
	if diff := cmp.Diff(wantRoles, roles); diff != "" {
		t.Error(diff)
	}
	wantInstances := []state.Instance{
		{ID: "post-cn-a", Region: "cn-hangzhou", Account: "a", Topics: []string{"factory", "office"}},
		{ID: "post-cn-b", Region: "cn-beijing", Account: "b", Topics: []string{}},
	}
	if diff := cmp.Diff(wantInstances, got.Instances); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(state.Quotas{Query: 100, Revoke: 5}, got.Quotas); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(state.Switches{CutOnNextUse: true, RevocationDelay: 2e9}, got.Switches); diff != "" {
		t.Error(diff)
	}
	wantFaults := wire.Faults{Latency: 1e9, ClockSkew: -20 * 60e9, Calls: []wire.Fault{{Kind: wire.FaultDropReply, Times: 2}}}
	if diff := cmp.Diff(wantFaults, got.Faults); diff != "" {
		t.Error(diff)
	}
}

func TestFlagsAreRefused(t *testing.T) {
	for sentence, argument := range map[string]string{
		"a key without a secret":        "--access-key=a/SECRET-canary",
		"an empty part of a key":        "--access-key=a//SECRET-canary",
		"a role without a name":         "--role=demo",
		"a role of nobody":              "--role=nobody/mqtt",
		"an instance without a region":  "--instance=a/post-cn-a",
		"a fault that is not JSON":      "--fault=DropReply",
		"a fault with a typing error":   `--fault={"knd":"DropReply"}`,
		"a fault of an unknown kind":    `--fault={"kind":"Fire"}`,
		"a negative quota":              "--quota-revoke=-1",
		"a negative delay":              "--revocation-delay=-1s",
		"no name in the certificate":    "--tls-name=",
		"a certificate without its key": "--tls-cert-file=x",
	} {
		t.Run(sentence, func(t *testing.T) {
			_, err := parse(t, argument).simulator()
			if err == nil {
				t.Fatal("accepted")
			}
			if strings.Contains(err.Error(), "canary") {
				t.Error("the error holds a secret")
			}
		})
	}
}

func TestAGivenCertificateIsLoaded(t *testing.T) {
	server := httptest.NewTLSServer(http.NotFoundHandler())
	t.Cleanup(server.Close)
	key, err := x509.MarshalPKCS8PrivateKey(server.TLS.Certificates[0].PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	write := func(kind string, der []byte) string {
		name := filepath.Join(t.TempDir(), "file.pem")
		if err := os.WriteFile(name, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	certificate := write("CERTIFICATE", server.Certificate().Raw)
	got, err := parse(t, "--tls-cert-file="+certificate, "--tls-key-file="+write("PRIVATE KEY", key), "--tls-ca-file="+certificate).simulator()
	if err != nil {
		t.Fatal(err)
	}
	if got.Certificate == nil || !x509.NewCertPool().AppendCertsFromPEM(got.CAPEM) {
		t.Error("lost on the way")
	}
}

// firstLines collects what is printed and reports once the banner is out.
type firstLines struct {
	text strings.Builder
	out  chan struct{}
}

func (f *firstLines) Write(p []byte) (int, error) {
	if strings.Contains(string(p), "END CERTIFICATE") && strings.HasPrefix(string(p), "-----BEGIN") {
		defer close(f.out)
	}
	return f.text.Write(p)
}

func TestRunServesAndEndsCleanly(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	caFile := filepath.Join(t.TempDir(), "ca.crt")
	printed := &firstLines{out: make(chan struct{})}
	ended := make(chan error, 1)
	go func() { ended <- run(ctx, freePorts("--print-ca", "--write-ca="+caFile), printed) }()
	select {
	case <-printed.out:
	case err := <-ended:
		t.Fatal(err)
	}
	banner := printed.text.String()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, regexp.MustCompile(`Admin +(http://\S+)`).FindStringSubmatch(banner)[1]+"/ca.crt", nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	served, err := io.ReadAll(response.Body)
	if err != nil || response.Body.Close() != nil {
		t.Fatal(err)
	}
	written, err := os.ReadFile(caFile)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(served), string(written)); diff != "" || !strings.HasSuffix(banner, string(served)) {
		t.Error("the CA differs from place to place", diff)
	}
	checkExample(t, banner)
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// checkExample reads the example instance out of the banner.
func checkExample(t *testing.T, banner string) {
	t.Helper()
	from, to := strings.Index(banner, "  apiVersion:"), strings.Index(banner, "Look inside")
	var instance struct {
		Spec struct {
			InstanceID, RegionID, Endpoint, CABundle string
			Broker                                   struct {
				CABundle string
				Ports    map[string]int
			}
		}
	}
	if err := yaml.Unmarshal([]byte(strings.ReplaceAll(banner[from:to], "\n  ", "\n")[2:]), &instance); err != nil {
		t.Fatal(err)
	}
	spec := instance.Spec
	if spec.InstanceID != "post-cn-simulator1" || spec.RegionID != "cn-hangzhou" || len(spec.Broker.Ports) != 3 {
		t.Errorf("%+v", spec)
	}
	for _, bundle := range []string{spec.CABundle, spec.Broker.CABundle} {
		if !x509.NewCertPool().AppendCertsFromPEM([]byte(bundle)) {
			t.Errorf("no certificate in %q", bundle)
		}
	}
}

func TestRunRefuses(t *testing.T) {
	for sentence, arguments := range map[string][]string{
		"an unknown flag":                 {"--no-such-flag"},
		"an argument":                     {"now"},
		"an instance of nobody":           freePorts("--instance=nobody/cn-hangzhou/post-cn-a"),
		"a port that does not exist":      freePorts("--api-address=127.0.0.1:99999"),
		"a place it cannot write to":      freePorts("--write-ca=" + filepath.Join(t.TempDir(), "no", "such", "folder")),
		"certificate files that are gone": {"--tls-cert-file=a", "--tls-key-file=b", "--tls-ca-file=c"},
	} {
		t.Run(sentence, func(t *testing.T) {
			if err := run(t.Context(), arguments, io.Discard); err == nil {
				t.Error("ran")
			}
		})
	}
	if err := run(t.Context(), []string{"--help"}, io.Discard); !errors.Is(err, pflag.ErrHelp) {
		t.Error(err)
	}
}
