package aliyun

import (
	"net/http"
	"net/url"
)

// metadataHost is where a machine finds its metadata service, by plain HTTP within the machine's own network.
const metadataHost = "100.100.100.200"

// NewProviderTransport returns what the SDK's credential providers are to send by. They take no transport: they copy
// http.DefaultTransport. So the command that uses Options.Providers sets that to this, before anything else runs.
//
// It follows no redirect, which would take a signed request or the service account's token elsewhere, and it never asks
// a proxy for the metadata service, whose answers are not encrypted. It trusts the system's certificates.
func NewProviderTransport() *http.Transport {
	transport := newTransport(nil)
	transport.Proxy = providerProxy
	transport.DisableKeepAlives = true // each refresh uses a copy, whose connections nobody would use again
	return transport
}

// providerProxy is asked before each request, also before the one that follows a redirect.
func providerProxy(r *http.Request) (*url.URL, error) {
	switch {
	case r.Response != nil:
		return nil, redirectError{}
	case r.URL.Hostname() == metadataHost:
		return nil, nil //nolint:nilnil // That is how to say: no proxy.
	default:
		return http.ProxyFromEnvironment(r)
	}
}

// redirectError says that a redirect was not followed.
type redirectError struct{}

func (redirectError) Error() string { return "redirects are not followed" }
