package main

import (
	"crypto/tls"

	"sigs.k8s.io/controller-runtime/pkg/metrics/filters"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"
)

// metricsOptions serve metrics over TLS to whom the API server knows and allows to get them. The certificate is the
// manager's own work, unless a folder holds one.
func metricsOptions(o options) metricsserver.Options {
	served := metricsserver.Options{BindAddress: o.metricsAddress, SecureServing: o.metricsSecure, CertDir: o.metricsCertificates}
	if o.metricsSecure {
		served.FilterProvider = filters.WithAuthenticationAndAuthorization
		// HTTP/1.1 alone: streams of HTTP/2 that are opened and reset at once have brought servers down before.
		served.TLSOpts = []func(*tls.Config){func(c *tls.Config) {
			c.MinVersion, c.NextProtos = tls.VersionTLS12, []string{"http/1.1"}
		}}
	}
	return served
}
