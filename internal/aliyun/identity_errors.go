package aliyun

import (
	"errors"
	"fmt"
	"net"
	"slices"

	sdkerrors "github.com/aliyun/alibaba-cloud-sdk-go/sdk/errors"

	"github.com/mqtt-token-operator/mqtt-token-operator/internal/token"
)

// Our own codes, for what is in the way of a key.
const (
	codeNoProviders         = "IdentityNotServed"
	codeUnknownIdentity     = "UnknownIdentity"
	codeIncompleteIdentity  = "IncompleteIdentity"
	codeInvalidRoleName     = "InvalidRoleName"
	codeNoAmbient           = "NoAmbientIdentity"
	codeMetadataDisabled    = "MetadataDisabled"
	codeMetadataUnavailable = "MetadataUnavailable"
	codeTokenFileUnreadable = "TokenFileUnreadable"
	codeUnreadableKeys      = "UnreadableCredentials"
	codeSTSUnreachable      = "STSUnreachable"
	codeSTSUntrusted        = "STSUntrustedCertificate"
	codeSTSRedirected       = "STSRedirected"
	codeSTSTimeout          = "STSTimeout"
	codeSTSConnectionLost   = "STSConnectionLost"
	codeSTSUnavailable      = "STSUnavailable"
)

// identityFault is a fault on the way to a key. Whoever passes it on says for which operation.
func identityFault(code string, cause error) *token.Error {
	m := identityMeaningOf(code)
	return &token.Error{Kind: m.kind, Op: opDial, Code: code, Hint: m.hint, Err: cause}
}

// identityMeaningOf sorts a code of the security token service or of our own about keys. What it says of a key is said
// by the token service in the same words.
func identityMeaningOf(code string) meaning {
	for _, m := range slices.Concat(identityMeanings(), roleMeanings(), stsMeanings(), credentialMeanings()) {
		if slices.ContainsFunc(m.patterns, func(pattern string) bool { return fits(pattern, code) }) {
			return m
		}
	}
	return meaning{kind: token.KindUnavailable}
}

// identityMeanings lists what is wrong before anybody is asked.
func identityMeanings() []meaning {
	instance := func(code, hint string) meaning {
		return meaning{patterns: []string{code}, kind: token.KindInstance, hint: hint}
	}
	return []meaning{
		instance(codeNoProviders, "this manager serves credentials of type AccessKey only"),
		instance(codeUnknownIdentity, "this manager does not know this type of credentials; upgrade it"),
		instance(codeIncompleteIdentity, "the credentials are not complete; name the role, and for RRSA also the OIDC provider and the token file, or annotate the manager's service account for RRSA"),
		instance(codeInvalidRoleName, "the name of the machine's role is not one; it holds letters, digits and .@_- only"),
		instance(codeNoAmbient, "the manager's environment offers no identity; give its service account a role (RRSA), or allow the metadata service"),
		instance(codeMetadataDisabled, "the manager's environment forbids the metadata service; unset ALIBABA_CLOUD_ECS_METADATA_DISABLED or use RRSA"),
		instance(codeMetadataUnavailable, "the metadata service gives no key; attach the RAM role to the machine and let the manager's pod reach 100.100.100.200, or use RRSA"),
		instance(codeTokenFileUnreadable, "the service account's token file cannot be read or is empty; check the projected volume of the manager's pod"),
		instance(codeInvalidEndpoint, "the endpoint of the security token service must be a host name, with a port or without, and nothing else"),
		instance(codeInvalidRegion, "the region must be a region id such as cn-hangzhou"),
	}
}

// roleMeanings lists what the security token service says about a role. Source: the error tables of AssumeRole and
// AssumeRoleWithOIDC, which are not complete; add as needed.
func roleMeanings() []meaning {
	return []meaning{
		{
			patterns: []string{"EntityNotExist.Role*"},
			kind:     token.KindInstance,
			hint:     "the role does not exist; correct its ARN",
		},
		{
			patterns: []string{"EntityNotExist*"},
			kind:     token.KindInstance,
			hint:     "the OIDC provider does not exist; correct its ARN",
		},
		{
			patterns: []string{"NoPermission*", "Forbidden*", "AuthenticationFail.NoPermission*"},
			kind:     token.KindInstance,
			hint:     "the role may not be assumed; check its ARN, whom its trust policy names, the external id, and that the caller may call sts:AssumeRole",
		},
		{
			patterns: []string{"AuthenticationFail.OIDCToken.Expired*"},
			kind:     token.KindInstance,
			hint:     "the service account's token has expired; see why the kubelet does not renew the token file, and check the node's clock",
		},
		{
			patterns: []string{"AuthenticationFail*"},
			kind:     token.KindInstance,
			hint:     "the service account's token is not accepted; check the OIDC provider's issuer, client id and fingerprint",
		},
	}
}

// stsMeanings lists what is between us and the security token service.
func stsMeanings() []meaning {
	return []meaning{
		{
			patterns: []string{"InvalidParameter*", "Missing*"},
			kind:     token.KindInstance,
			hint:     "the security token service does not accept the request; check the ARNs, the external id and that the role allows sessions of one hour",
		},
		{
			patterns: []string{codeSTSUnreachable},
			kind:     token.KindInstance,
			hint:     "no connection to the security token service; check its endpoint, the region, the network policy and the proxy",
		},
		{
			patterns: []string{codeSTSUntrusted},
			kind:     token.KindInstance,
			hint:     "the certificate of the security token service is not trusted; check its endpoint, the system's CAs and the node's clock",
		},
		{
			patterns: []string{codeSTSRedirected},
			kind:     token.KindInstance,
			hint:     "the endpoint redirects to another address, which is not followed; name the security token service's own endpoint",
		},
	}
}

// stsFault sorts an error of the SDK's providers. Its text can hold the signed address and the answer: none is kept.
func (c *call) stsFault(err error) *token.Error {
	cause := safeCause(err)
	if refused, ok := errors.AsType[*sdkerrors.ServerError](err); ok {
		return c.stsRefusal(refused)
	}
	if errors.As(err, new(redirectError)) {
		return identityFault(codeSTSRedirected, nil)
	}
	if isCertificateProblem(err) {
		return identityFault(codeSTSUntrusted, cause)
	}
	if operation, ok := errors.AsType[*net.OpError](err); ok && operation.Op == "dial" {
		return identityFault(codeSTSUnreachable, cause)
	}
	network, ok := errors.AsType[net.Error](err)
	switch {
	case !ok:
		return identityFault(codeUnreadableKeys, nil)
	case network.Timeout():
		return identityFault(codeSTSTimeout, nil)
	default:
		return identityFault(codeSTSConnectionLost, cause)
	}
}

func (c *call) stsRefusal(refused *sdkerrors.ServerError) *token.Error {
	code := c.cleanCode(refused.ErrorCode())
	if code == "" {
		code = codeSTSUnavailable
	}
	fault := identityFault(code, fmt.Errorf("HTTP status %d of the security token service", refused.HttpStatus()))
	fault.RequestID = c.cleanRequestID(refused.RequestId())
	return fault
}
