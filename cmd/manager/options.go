package main

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/spf13/pflag"
	"k8s.io/apimachinery/pkg/util/validation"
)

// options is the command line.
type options struct {
	metricsAddress string
	// metricsSecure serves them over TLS, to callers that the API server knows and allows.
	metricsSecure bool
	// metricsCertificates is a folder with tls.crt and tls.key; empty: the manager makes a certificate.
	metricsCertificates string
	probeAddress        string
	leaderElect         bool
	namespace           string
	// watchNamespaces are the namespaces to serve; nil: all of them.
	watchNamespaces []string
	// clusterID tells this cluster from others; empty: the UID of kube-system does.
	clusterID        string
	workers          int
	allowedEndpoints []string
	// identityNamespaces are those whose instances may use the manager's own identity; nil: the manager's own.
	identityNamespaces []string
	// revocationDeadline is how long a deletion waits for the service.
	revocationDeadline time.Duration
	// verifyInterval is how often each token is checked; zero: never.
	verifyInterval time.Duration
	// rolloutRestarts has workloads restarted when tokens change.
	rolloutRestarts bool
	verbose         bool
}

// defaultWorkers suits two cores: a pass that changes something mostly waits for the network.
const defaultWorkers = 8

const (
	// defaultRevocationDeadline lets an outage of minutes pass, and keeps nobody at `kubectl delete` for longer.
	defaultRevocationDeadline = 2 * time.Minute
	// minRevocationDeadline leaves time for a first call and one more.
	minRevocationDeadline = 10 * time.Second
	maxRevocationDeadline = time.Hour
	// defaultVerifyInterval costs one call a day and token.
	defaultVerifyInterval = 24 * time.Hour
	// minVerifyInterval keeps the checks of 10 000 tokens below a fifth of the account's quota of 100 calls per second.
	minVerifyInterval = 10 * time.Minute
)

func defaults() options {
	return options{
		metricsAddress: ":8443", metricsSecure: true, probeAddress: ":8081", namespace: "mqtt-token-system", workers: defaultWorkers,
		revocationDeadline: defaultRevocationDeadline, verifyInterval: defaultVerifyInterval,
	}
}

func (o *options) addFlags(flags *pflag.FlagSet) {
	flags.StringVar(&o.metricsAddress, "metrics-bind-address", o.metricsAddress, "host:port to serve metrics on; 0 serves none")
	flags.BoolVar(&o.metricsSecure, "metrics-secure", o.metricsSecure, "serve metrics over TLS, to whom the API server knows and allows to get /metrics; false serves the machine itself alone, in plain text")
	flags.StringVar(&o.metricsCertificates, "metrics-cert-dir", "", "a folder with tls.crt and tls.key to serve metrics with; without it, the manager makes a certificate of its own at each start")
	flags.StringVar(&o.probeAddress, "health-probe-bind-address", o.probeAddress, "host:port to serve /healthz and /readyz on; 0 serves none")
	flags.BoolVar(&o.leaderElect, "leader-elect", o.leaderElect, "run only while holding the lease, so that a second manager can stand by")
	flags.StringVar(&o.namespace, "namespace", o.namespace, "the manager's own namespace: where its lease and the ledger are")
	flags.StringSliceVar(&o.watchNamespaces, "watch-namespaces", nil, "the namespaces to serve, of grants and of instances; a RoleBinding in each lets the manager in. Without it, all namespaces")
	flags.StringVar(&o.clusterID, "cluster-id", "", "what tells this cluster's token Secrets from those that a backup brings from another one, 1 to 63 letters, digits and '-'; without it, the UID of namespace kube-system")
	flags.IntVar(&o.workers, "workers", o.workers, "how many grants are worked on at the same time, 1 to 64")
	flags.StringSliceVar(&o.allowedEndpoints, "allowed-endpoints", nil, "host:port of OpenAPI endpoints, beside the service's own, that an MqttInstance may name (and give a caBundle for)")
	flags.StringSliceVar(&o.identityNamespaces, "manager-identity-namespaces", nil, "the namespaces whose MqttInstances may use the manager's own identity (RRSA, ECSRAMRole, Ambient). Without it, the manager's own namespace; empty, none")
	flags.DurationVar(&o.revocationDeadline, "revocation-deadline", o.revocationDeadline, "how long the deletion of a grant waits for the service to revoke its tokens before the ledger takes over what is left, 10s to 1h")
	flags.DurationVar(&o.verifyInterval, "verify-interval", o.verifyInterval, "how often the service is asked whether each token is still valid, at least 10m; 0 never asks")
	flags.BoolVar(&o.rolloutRestarts, "rollout-restarts", o.rolloutRestarts, "restart the workloads that grants name in spec.rolloutRestartTargets when their tokens change; needs the rights of config/components/rollout-restart")
	flags.BoolVar(&o.verbose, "verbose", o.verbose, "log each pass, in a form for people")
}

// lendsIdentityTo lists the namespaces whose instances may use the manager's own identity.
func (o *options) lendsIdentityTo() []string {
	if o.identityNamespaces == nil {
		return []string{o.namespace}
	}
	return o.identityNamespaces
}

// validate returns everything that is wrong with the options at once.
func (o *options) validate() error {
	var faults []error
	for name, address := range map[string]string{"metrics-bind-address": o.metricsAddress, "health-probe-bind-address": o.probeAddress} {
		if _, _, err := net.SplitHostPort(address); err != nil && address != "0" {
			faults = append(faults, fmt.Errorf("--%s: %q is neither host:port nor 0", name, address))
		}
	}
	if o.workers < 1 || o.workers > 64 {
		faults = append(faults, fmt.Errorf("--workers: %d is not between 1 and 64", o.workers))
	}
	faults = append(faults, o.nameFaults()...)
	faults = append(faults, o.watchFaults()...)
	if o.revocationDeadline < minRevocationDeadline || o.revocationDeadline > maxRevocationDeadline {
		faults = append(faults, fmt.Errorf("--revocation-deadline: %s is not between %s and %s", o.revocationDeadline, minRevocationDeadline, maxRevocationDeadline))
	}
	if o.verifyInterval != 0 && o.verifyInterval < minVerifyInterval {
		faults = append(faults, fmt.Errorf("--verify-interval: %s is neither 0 nor at least %s", o.verifyInterval, minVerifyInterval))
	}
	return errors.Join(faults...)
}

// nameFaults is what is wrong with the names of things.
func (o *options) nameFaults() []error {
	var faults []error
	if o.namespace == "" {
		faults = append(faults, errors.New("--namespace: it is empty"))
	}
	if host, _, err := net.SplitHostPort(o.metricsAddress); err == nil && !o.metricsSecure && !isLoopback(host) {
		faults = append(faults, fmt.Errorf("--metrics-secure=false: %s serves others than this machine; use 127.0.0.1", o.metricsAddress))
	}
	if o.clusterID != "" && len(validation.IsDNS1123Label(strings.ToLower(o.clusterID))) > 0 {
		faults = append(faults, fmt.Errorf("--cluster-id: %q is not 1 to 63 letters, digits and '-'", o.clusterID))
	}
	for _, endpoint := range o.allowedEndpoints {
		if endpoint == "" || strings.ContainsAny(endpoint, "/ ") {
			faults = append(faults, fmt.Errorf("--allowed-endpoints: %q is not a host with an optional port", endpoint))
		}
	}
	return faults
}

// watchFaults is what is wrong with the namespaces to watch. An empty list would be all of them to the caches, and is a
// variable that somebody forgot to set.
func (o *options) watchFaults() []error {
	if o.watchNamespaces != nil && len(o.watchNamespaces) == 0 {
		return []error{errors.New("--watch-namespaces: it is empty; leave it out to serve all namespaces")}
	}
	var faults []error
	for _, namespace := range o.watchNamespaces {
		if len(validation.IsDNS1123Label(namespace)) > 0 {
			faults = append(faults, fmt.Errorf("--watch-namespaces: %q cannot be the name of a namespace", namespace))
		}
	}
	return faults
}

func isLoopback(host string) bool { return host == "localhost" || net.ParseIP(host).IsLoopback() }
