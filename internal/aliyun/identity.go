package aliyun

import (
	"cmp"
	"net/http"
	"os"
	"regexp"
	"strings"

	"github.com/mqtt-token-operator/mqtt-token-operator/internal/token"
)

// What the process's environment says. The cluster's webhook sets the first six for a service account with a role; the
// others are the SDK's.
const (
	envRoleARN          = "ALIBABA_CLOUD_ROLE_ARN"
	envOIDCProviderARN  = "ALIBABA_CLOUD_OIDC_PROVIDER_ARN"
	envOIDCTokenFile    = "ALIBABA_CLOUD_OIDC_TOKEN_FILE"
	envSTSEndpoint      = "ALIBABA_CLOUD_STS_ENDPOINT"
	envSTSRegion        = "ALIBABA_CLOUD_STS_REGION"
	envVPCEndpoint      = "ALIBABA_CLOUD_VPC_ENDPOINT_ENABLED"
	envAccessKeyID      = "ALIBABA_CLOUD_ACCESS_KEY_ID"
	envAccessKeySecret  = "ALIBABA_CLOUD_ACCESS_KEY_SECRET"
	envMetadataRole     = "ALIBABA_CLOUD_ECS_METADATA"
	envMetadataDisabled = "ALIBABA_CLOUD_ECS_METADATA_DISABLED"
)

const sessionName = "mqtt-token-operator"

// speaker is everything that decides which keys an identity yields. Equal speakers share a source.
type speaker struct {
	token.Identity
	accessKeyID           string
	secret, securityToken token.Value
	region                string
	vpc                   bool
}

func speakerOf(c token.Connection) speaker {
	s := speaker{Identity: c.Identity, region: c.Region, vpc: c.VPC}
	if s.Type == token.IdentityAccessKey {
		s.accessKeyID, s.secret, s.securityToken = c.AccessKeyID, c.AccessKeySecret, c.SecurityToken
	}
	return s
}

// isStatic reports whether the keys are the connection's own and stay so.
func (s speaker) isStatic() bool {
	return s.Type == token.IdentityAccessKey && s.Assume == (token.AssumedRole{})
}

// problem tells an identity that can never work.
func (s speaker) problem(providers *http.Transport) *token.Error {
	_, hostFault := s.stsHost()
	switch {
	case s.isStatic():
		return nil
	case providers == nil || http.DefaultTransport != http.RoundTripper(providers):
		return identityFault(codeNoProviders, nil)
	case s.Assume.RoleARN == "" && !s.Assume.ExternalID.IsZero():
		return identityFault(codeIncompleteIdentity, nil)
	case !regexp.MustCompile(`^[A-Za-z0-9.@_-]{0,64}$`).MatchString(s.RoleName): // it becomes part of an address
		return identityFault(codeInvalidRoleName, nil)
	}
	switch s.Type {
	case token.IdentityAccessKey, token.IdentityRRSA, token.IdentityECSRAMRole, token.IdentityAmbient:
		return hostFault
	default:
		return identityFault(codeUnknownIdentity, nil)
	}
}

// resolved fills in what the environment says. It is done at each refresh.
func (s speaker) resolved() (speaker, *token.Error) {
	if s.Type == token.IdentityAmbient {
		return s.ambient()
	}
	if s.Type == token.IdentityECSRAMRole && isTrue(envMetadataDisabled) {
		return s, identityFault(codeMetadataDisabled, nil)
	}
	if s.Type != token.IdentityRRSA {
		return s, nil
	}
	s = s.withRole()
	if s.RoleARN == "" || s.OIDCProviderARN == "" || s.TokenFile == "" {
		return s, identityFault(codeIncompleteIdentity, nil)
	}
	return s, nil
}

// ambient picks what the environment offers. The SDK's own chain sticks to its last link after one failure.
func (s speaker) ambient() (speaker, *token.Error) {
	switch role := s.withRole(); {
	case os.Getenv(envAccessKeyID) != "" && os.Getenv(envAccessKeySecret) != "":
		return s, nil
	case role.RoleARN != "" && role.OIDCProviderARN != "" && role.TokenFile != "":
		role.Type = token.IdentityRRSA
		return role, nil
	case !isTrue(envMetadataDisabled):
		s.Type = token.IdentityECSRAMRole
		s.RoleName = cmp.Or(s.RoleName, os.Getenv(envMetadataRole))
		return s, nil
	default:
		return s, identityFault(codeNoAmbient, nil)
	}
}

func (s speaker) withRole() speaker {
	s.RoleARN = cmp.Or(s.RoleARN, os.Getenv(envRoleARN))
	s.OIDCProviderARN = cmp.Or(s.OIDCProviderARN, os.Getenv(envOIDCProviderARN))
	s.TokenFile = cmp.Or(s.TokenFile, os.Getenv(envOIDCTokenFile))
	return s
}

// stsHost returns the host (and port) of the security token service: the environment's, or by region and
// network, both of which the environment may say for the whole process.
func (s speaker) stsHost() (string, *token.Error) {
	if host := os.Getenv(envSTSEndpoint); host != "" {
		if !isHost(host) {
			return "", identityFault(codeInvalidEndpoint, nil)
		}
		return host, nil
	}
	region := cmp.Or(os.Getenv(envSTSRegion), s.region)
	switch {
	case region == "":
		return "sts.aliyuncs.com", nil
	case !isRegion(region):
		return "", identityFault(codeInvalidRegion, nil)
	case s.vpc || isTrue(envVPCEndpoint):
		return "sts-vpc." + region + ".aliyuncs.com", nil
	default:
		return "sts." + region + ".aliyuncs.com", nil
	}
}

func isTrue(variable string) bool { return strings.EqualFold(os.Getenv(variable), "true") }
