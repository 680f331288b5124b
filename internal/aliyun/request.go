package aliyun

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/aliyun/alibaba-cloud-sdk-go/sdk"
	"github.com/aliyun/alibaba-cloud-sdk-go/sdk/auth"
	"github.com/aliyun/alibaba-cloud-sdk-go/sdk/auth/credentials"
	"github.com/aliyun/alibaba-cloud-sdk-go/sdk/requests"
	"github.com/aliyun/alibaba-cloud-sdk-go/services/onsmqtt"

	"github.com/mqtt-token-operator/mqtt-token-operator/internal/token"
)

const (
	scheme         = "https"
	topicSeparator = ","
	signatureParam = "Signature"
)

// endpointHost returns the host (and port) to call. We compute it, because the SDK's own table of endpoints is empty
// and made on first use without a lock.
func endpointHost(c token.Connection) (string, *token.Error) {
	if c.Endpoint != "" {
		if !isHost(c.Endpoint) {
			return "", dialFault(codeInvalidEndpoint, "the endpoint must be a host name, with a port or without, and nothing else")
		}
		return c.Endpoint, nil
	}
	if !isRegion(c.Region) {
		return "", dialFault(codeInvalidRegion, "the region must be a region id such as cn-hangzhou")
	}
	if c.VPC {
		return "onsmqtt-vpc." + c.Region + ".aliyuncs.com", nil
	}
	return "onsmqtt." + c.Region + ".aliyuncs.com", nil
}

// isHost reports whether the text is a host, with a port or without, and nothing else.
func isHost(text string) bool {
	address, err := url.Parse(scheme + "://" + text)
	return err == nil && address.Host == text && address.Hostname() != ""
}

// isRegion reports whether the text has the form of a region id. Anything but these characters could turn the name of a
// host into another host's.
func isRegion(text string) bool {
	return regexp.MustCompile(`^[a-z0-9]+(-[a-z0-9]+)*$`).MatchString(text)
}

func applyRequest(instanceID string, scope token.Scope, expires time.Time) (*onsmqtt.ApplyTokenRequest, error) {
	actions, err := wireActions(scope.Type)
	if err != nil {
		return nil, scopeFault(err)
	}
	names := make([]string, 0, len(scope.Topics))
	for _, filter := range scope.Topics {
		names = append(names, filter.String())
	}
	resources, err := joinResources(names)
	if err != nil {
		return nil, scopeFault(err)
	}
	request := onsmqtt.CreateApplyTokenRequest()
	request.InstanceId = instanceID
	request.Actions = actions
	request.Resources = resources
	request.ExpireTime = requests.NewInteger64(expires.UnixMilli())
	return request, nil
}

// wireActions spells a type as the request does; in a password "R,W" is "RW".
func wireActions(kind token.Type) (string, error) {
	switch kind {
	case token.Publish:
		return "W", nil
	case token.Subscribe:
		return "R", nil
	case token.PublishSubscribe:
		return "R,W", nil
	default:
		return "", fmt.Errorf("unknown token type %q", kind)
	}
}

// joinResources sorts and joins topics as the service wants them. The service splits at each comma, so a name with a
// comma in it would buy a topic that nobody approved: the elements are counted again here, whatever checked before.
func joinResources(names []string) (string, error) {
	if len(names) == 0 || len(names) > token.MaxTopics {
		return "", fmt.Errorf("a token carries 1 to %d topics, not %d", token.MaxTopics, len(names))
	}
	if slices.Contains(names, "") {
		return "", fmt.Errorf("one of the topics is empty")
	}
	joined := strings.Join(slices.Sorted(slices.Values(names)), topicSeparator)
	if elements := strings.Split(joined, topicSeparator); len(elements) != len(names) {
		return "", fmt.Errorf("the topics would be read as %d, not as %d: one of them holds a comma", len(elements), len(names))
	}
	return joined, nil
}

func queryRequest(instanceID string, value token.Value) *onsmqtt.QueryTokenRequest {
	request := onsmqtt.CreateQueryTokenRequest()
	request.InstanceId = instanceID
	request.Token = value.Reveal()
	return request
}

func revokeRequest(instanceID string, value token.Value) *onsmqtt.RevokeTokenRequest {
	request := onsmqtt.CreateRevokeTokenRequest()
	request.InstanceId = instanceID
	request.Token = value.Reveal()
	return request
}

// sign has the SDK add the common parameters and the signature, and returns the request to send. Errors of the SDK are
// dropped for a constant: their text can hold the signed URL.
func (s *service) sign(ctx context.Context, c *call, used keys) (*http.Request, error) {
	c.request.SetDomain(s.host)
	c.request.SetScheme(scheme)
	client, err := sdk.NewClientWithOptions(s.connection.Region, sdk.NewConfig(), used.credential())
	if err != nil {
		return nil, c.fault(token.KindInstance, codeCannotSign, nil)
	}
	if err := client.BuildRequestWithSigner(c.request, nil); err != nil {
		return nil, c.fault(token.KindInstance, codeCannotSign, nil)
	}
	c.secrets = append(c.secrets, token.NewValue(c.request.GetQueryParams()[signatureParam]))
	request, err := http.NewRequestWithContext(ctx, c.request.GetMethod(), scheme+"://"+s.host+"/", http.NoBody)
	if err != nil {
		return nil, c.fault(token.KindInstance, codeCannotSign, nil)
	}
	request.URL.RawQuery = strings.TrimPrefix(c.request.BuildQueries(), "/?")
	for name, value := range c.request.GetHeaders() {
		request.Header.Set(name, value)
	}
	request.Header.Set("User-Agent", s.userAgent())
	return request, nil
}

func (k keys) credential() auth.Credential {
	if k.securityToken.IsZero() {
		return &credentials.AccessKeyCredential{AccessKeyId: k.id, AccessKeySecret: k.secret.Reveal()}
	}
	return &credentials.StsTokenCredential{AccessKeyId: k.id, AccessKeySecret: k.secret.Reveal(), AccessKeyStsToken: k.securityToken.Reveal()}
}

func (s *service) userAgent() string {
	if s.options.UserAgent == "" {
		return sdk.DefaultUserAgent
	}
	return sdk.DefaultUserAgent + " Extra/" + s.options.UserAgent
}
