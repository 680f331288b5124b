package controllers

import (
	"fmt"
	"regexp"
	"slices"

	"github.com/mqtt-token-operator/mqtt-token-operator/api/v1alpha1"
)

// endpointProblem keeps credentials from being used against hosts that the installation does not know: whoever may
// write an MqttInstance could otherwise have calls signed for a server of their own.
func (r *InstanceReconciler) endpointProblem(spec v1alpha1.MqttInstanceSpec) *problem {
	listed := slices.Contains(r.AllowedEndpoints, spec.Endpoint)
	switch {
	case spec.CABundle != "" && !listed:
		return &problem{
			reason: v1alpha1.ReasonEndpointNotAllowed, stalled: true,
			message: fmt.Sprintf("A caBundle is taken only for an endpoint that the manager lists by name. Remove it, or start the manager with --allowed-endpoints=%s.", spec.Endpoint),
		}
	case spec.Endpoint != "" && !listed && !isVendorEndpoint(spec.Endpoint):
		return &problem{
			reason: v1alpha1.ReasonEndpointNotAllowed, stalled: true,
			message: fmt.Sprintf("Endpoint %q is not allowed. Remove it, or start the manager with --allowed-endpoints=%s.", spec.Endpoint, spec.Endpoint),
		}
	}
	return nil
}

// isVendorEndpoint matches one label for the region: customers own hosts deeper under the vendor's domain.
func isVendorEndpoint(endpoint string) bool {
	return regexp.MustCompile(`^onsmqtt(-vpc)?\.[a-z0-9-]+\.aliyuncs\.com$`).MatchString(endpoint)
}
