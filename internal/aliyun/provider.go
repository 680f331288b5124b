package aliyun

import (
	"os"
	"time"

	"github.com/aliyun/alibaba-cloud-sdk-go/sdk/auth/credentials"

	"github.com/mqtt-token-operator/mqtt-token-operator/internal/token"
)

const (
	// One call to the security token service takes at most the sum of these.
	stsConnectTimeout = 5 * time.Second
	stsReadTimeout    = 5 * time.Second
)

// fetch asks for keys once, by the SDK's own providers, each of them named: never by its default chain.
func (s speaker) fetch() (fetched keys, life lifetime, fault *token.Error) {
	c := &call{}
	defer func() {
		if recover() != nil { // the SDK panics on answers that it does not expect; what it says may hold them
			fault = identityFault(codeUnreadableKeys, nil)
		}
	}()
	s, fault = s.resolved()
	if fault != nil {
		return keys{}, lifetime{}, fault
	}
	host, fault := s.stsHost()
	if fault != nil {
		return keys{}, lifetime{}, fault
	}
	provider, life, fault := s.provider(host, c)
	if fault != nil {
		return keys{}, lifetime{}, fault
	}
	fetched, fault = s.ask(provider, c)
	if fault != nil || s.Assume.RoleARN == "" {
		return fetched, life, fault
	}
	assuming, err := credentials.NewRAMRoleARNCredentialsProviderBuilder().
		WithCredentialsProvider(fetched.provider()).
		WithRoleArn(s.Assume.RoleARN).WithExternalId(s.Assume.ExternalID.Reveal()).WithRoleSessionName(sessionName).
		WithDurationSeconds(int(sessionLife.Seconds())).WithStsEndpoint(host).WithHttpOptions(stsTimeouts()).Build()
	if err != nil {
		return keys{}, lifetime{}, identityFault(codeIncompleteIdentity, nil)
	}
	c.secrets = append(c.secrets, fetched.secret, fetched.securityToken, s.Assume.ExternalID)
	fetched, fault = askSTS(assuming, c)
	return fetched, sessionLifetime(), fault
}

// provider returns the SDK's provider of the first keys and how long they are good for.
func (s speaker) provider(host string, c *call) (credentials.CredentialsProvider, lifetime, *token.Error) {
	unknown := lifetime{refresh: unknownRefresh, end: unknownLife}
	switch s.Type {
	case token.IdentityRRSA:
		presented, fault := readTokenFile(s.TokenFile)
		if fault != nil {
			return nil, lifetime{}, fault
		}
		c.secrets = append(c.secrets, presented)
		provider, err := credentials.NewOIDCCredentialsProviderBuilder().
			WithRoleArn(s.RoleARN).WithOIDCProviderARN(s.OIDCProviderARN).WithOIDCTokenFilePath(s.TokenFile).
			WithRoleSessionName(sessionName).WithDurationSeconds(int(sessionLife.Seconds())).
			WithSTSEndpoint(host).WithHttpOptions(stsTimeouts()).Build()
		if err != nil {
			return nil, lifetime{}, identityFault(codeIncompleteIdentity, nil)
		}
		return provider, sessionLifetime(), nil
	case token.IdentityECSRAMRole:
		provider, err := credentials.NewECSRAMRoleCredentialsProviderBuilder().WithRoleName(s.RoleName).Build()
		if err != nil {
			return nil, lifetime{}, identityFault(codeMetadataDisabled, nil)
		}
		return provider, unknown, nil
	case token.IdentityAmbient: // with a key in the environment: the other ambient identities are resolved by now
		return credentials.NewEnvironmentVariableCredentialsProvider(), unknown, nil
	default:
		return keys{id: s.accessKeyID, secret: s.secret, securityToken: s.securityToken}.provider(), unknown, nil
	}
}

// ask gets keys from the first provider.
func (s speaker) ask(provider credentials.CredentialsProvider, c *call) (keys, *token.Error) {
	if s.Type != token.IdentityECSRAMRole {
		return askSTS(provider, c)
	}
	got, err := provider.GetCredentials()
	if err != nil { // the SDK has only a text for what went wrong, and the text can hold the answer
		return keys{}, identityFault(codeMetadataUnavailable, nil)
	}
	return keysOf(got)
}

// askSTS gets keys from a provider that asks the security token service, or nobody.
func askSTS(provider credentials.CredentialsProvider, c *call) (keys, *token.Error) {
	got, err := provider.GetCredentials()
	if err != nil {
		return keys{}, c.stsFault(err)
	}
	return keysOf(got)
}

// keysOf takes the keys out of the SDK's answer, which may hold empty ones.
func keysOf(got *credentials.Credentials) (keys, *token.Error) {
	if got == nil || got.AccessKeyId == "" || got.AccessKeySecret == "" {
		return keys{}, identityFault(codeUnreadableKeys, nil)
	}
	return keys{id: got.AccessKeyId, secret: token.NewValue(got.AccessKeySecret), securityToken: token.NewValue(got.SecurityToken)}, nil
}

func (k keys) provider() credentials.CredentialsProvider {
	if k.securityToken.IsZero() {
		return credentials.NewStaticAKCredentialsProvider(k.id, k.secret.Reveal())
	}
	return credentials.NewStaticSTSCredentialsProvider(k.id, k.secret.Reveal(), k.securityToken.Reveal())
}

func stsTimeouts() *credentials.HttpOptions {
	return &credentials.HttpOptions{ConnectTimeout: stsConnectTimeout, ReadTimeout: stsReadTimeout}
}

func sessionLifetime() lifetime {
	return lifetime{refresh: sessionLife - refreshBefore, end: sessionLife - endMargin}
}

// readTokenFile reads the service account's token, to know what must not show up in an error and to say what is wrong
// with the file. The SDK reads it again.
func readTokenFile(name string) (token.Value, *token.Error) {
	text, err := os.ReadFile(name)
	if err != nil {
		return token.Value{}, identityFault(codeTokenFileUnreadable, safeCause(err))
	}
	if len(text) == 0 {
		return token.Value{}, identityFault(codeTokenFileUnreadable, nil)
	}
	return token.NewValue(string(text)), nil
}
