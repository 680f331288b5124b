package aliyun

import (
	"context"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/mqtt-token-operator/mqtt-token-operator/internal/token"
)

// Our own codes, for faults that the service has no word for.
const (
	codeIncomplete       = "IncompleteConnection"
	codeInvalidEndpoint  = "InvalidEndpoint"
	codeInvalidRegion    = "InvalidRegion"
	codeInvalidCABundle  = "InvalidCABundle"
	codeInvalidScope     = "InvalidScope"
	codeCannotSign       = "CannotSign"
	codeCanceled         = "Canceled"
	codeTimeout          = "Timeout"
	codeUnreachable      = "Unreachable"
	codeUntrusted        = "UntrustedCertificate"
	codeConnectionLost   = "ConnectionLost"
	codeRedirected       = "Redirected"
	codeTooManyRequests  = "TooManyRequests"
	codeUnreadableAnswer = "UnreadableAnswer"
	codeUnknown          = "UnknownCode"
)

// maxRetryAfter bounds what the service may ask for: a wrong header must not park a grant for ever.
const maxRetryAfter = time.Hour

// minSecret is the shortest text that is looked for in the service's words: a shorter one is in them by chance.
const minSecret = 8

// meaning is what the codes that fit one of the patterns stand for.
type meaning struct {
	patterns []string
	kind     token.Kind
	hint     string
}

// meaningOf sorts a code of the service or of our own. A code that is not listed may pass by itself.
func meaningOf(code string) meaning {
	for _, m := range slices.Concat(requestMeanings(), credentialMeanings(), transportMeanings()) {
		if slices.ContainsFunc(m.patterns, func(pattern string) bool { return fits(pattern, code) }) {
			return m
		}
	}
	return meaning{kind: token.KindUnavailable}
}

func fits(pattern, code string) bool {
	matched, err := path.Match(pattern, code)
	return err == nil && matched
}

// requestMeanings lists what the service says about one request. Sources, here and below: the error tables of the
// OnsMqtt API and the gateway's common codes (https://www.alibabacloud.com/help/doc-detail/109365.htm). They are not
// complete; add as needed.
func requestMeanings() []meaning {
	return []meaning{
		{
			patterns: []string{"*OverFlow", "Throttling*", codeTooManyRequests},
			kind:     token.KindThrottled,
			hint:     "the account makes more calls than its quota allows; lower the instance's share or ask the vendor for a higher quota",
		},
		{
			patterns: []string{"PermissionCheckFailed"},
			kind:     token.KindDenied,
			hint:     "the account may not use one of the topics; create its first level on the instance, or grant mq:ApplyToken on it to the credential",
		},
		{
			patterns: []string{"ApiNotSupport", "InvalidApi*"},
			kind:     token.KindInstance,
			hint:     "the endpoint does not know the token API; check the region and the endpoint",
		},
		{
			patterns: []string{"ParameterCheckFailed", "InvalidParameter*", "Missing*"},
			kind:     token.KindInvalid,
			hint:     "the service does not accept what the request asks for; check the topics, the validity and the instance id",
		},
	}
}

// credentialMeanings lists what the service says about the key and the instance, which all requests share.
func credentialMeanings() []meaning {
	return []meaning{
		{
			patterns: []string{"InvalidAccessKeyId*"},
			kind:     token.KindInstance,
			hint:     "the AccessKey id does not exist or is disabled; correct the credential Secret or enable the key",
		},
		{
			patterns: []string{"SignatureDoesNotMatch", "IncompleteSignature"},
			kind:     token.KindInstance,
			hint:     "the AccessKey secret does not belong to this AccessKey id; correct the credential Secret",
		},
		{
			patterns: []string{"InvalidSecurityToken*"},
			kind:     token.KindInstance,
			hint:     "the temporary credential has expired or does not belong to its AccessKey id; renew it",
		},
		{
			patterns: []string{"CheckAccountInfoFailed"},
			kind:     token.KindInstance,
			hint:     "the service cannot tell the account of the temporary credential; renew it or use another one",
		},
		{
			patterns: []string{"InstancePermissionCheckFailed"},
			kind:     token.KindInstance,
			hint:     "the credential may not use this MQTT instance; check the instance id and region, and grant mq:MqttInstanceAccess",
		},
		{
			patterns: []string{"InvalidTimeStamp*"},
			kind:     token.KindInstance,
			hint:     "the service finds the request too old or too new; correct the clock of the manager's node",
		},
		{
			patterns: []string{"NoPermission*", "Forbidden*"},
			kind:     token.KindInstance,
			hint:     "RAM does not allow the credential to call the token API; grant mq:MqttInstanceAccess, mq:ApplyToken, mq:QueryToken and mq:RevokeToken",
		},
	}
}

// transportMeanings lists our own words for an endpoint that no call can reach.
func transportMeanings() []meaning {
	return []meaning{
		{
			patterns: []string{codeUnreachable},
			kind:     token.KindInstance,
			hint:     "no connection to the endpoint; check its name, the region, the network policy and the proxy",
		},
		{
			patterns: []string{codeUntrusted},
			kind:     token.KindInstance,
			hint:     "the endpoint's certificate is not trusted; check the endpoint, the CA bundle and the node's clock",
		},
		{
			patterns: []string{codeRedirected},
			kind:     token.KindInstance,
			hint:     "the endpoint redirects to another address, which is not followed; name the token service's own endpoint",
		},
	}
}

// dialFault is a description of a connection that can never work.
func dialFault(code, hint string) *token.Error {
	return &token.Error{Kind: token.KindInstance, Op: opDial, Code: code, Hint: hint}
}

// scopeFault is a scope that must not be sent.
func scopeFault(cause error) *token.Error {
	return &token.Error{Kind: token.KindInvalid, Op: opApply, Code: codeInvalidScope, Hint: cause.Error()}
}

// endedFault says that the caller's context has ended, or nothing. The context's error stays in the chain.
func endedFault(ctx context.Context, operation string) error {
	if ctx.Err() == nil {
		return nil
	}
	code := codeCanceled
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		code = codeTimeout
	}
	return &token.Error{Kind: token.KindUnavailable, Op: operation, Code: code, Err: ctx.Err()}
}

func (c *call) fault(kind token.Kind, code string, cause error) *token.Error {
	return &token.Error{Kind: kind, Op: c.operation, Code: code, Hint: meaningOf(code).hint, Err: cause}
}

// coded is a fault whose kind its code tells.
func (c *call) coded(code string, cause error) *token.Error {
	return c.fault(meaningOf(code).kind, code, cause)
}

// transportFault says what became of a call that got no whole answer. Errors of the transport can quote the peer and
// the URL, so only causes that cannot are passed on.
func (c *call) transportFault(caller, bounded context.Context, err error, connected bool) error {
	if ended := endedFault(caller, c.operation); ended != nil {
		return ended
	}
	cause := safeCause(err)
	switch {
	case bounded.Err() != nil:
		return c.coded(codeTimeout, errors.New("no answer within the time allowed for a call"))
	case isCertificateProblem(err):
		return c.coded(codeUntrusted, cause)
	case !connected:
		return c.coded(codeUnreachable, cause)
	default:
		return c.coded(codeConnectionLost, cause)
	}
}

func isCertificateProblem(err error) bool {
	return errors.As(err, new(x509.UnknownAuthorityError)) || errors.As(err, new(x509.HostnameError)) || errors.As(err, new(x509.CertificateInvalidError))
}

// safeCause returns the part of a transport's error that holds neither the URL nor a word of the peer's, or nil.
func safeCause(err error) error {
	if errors.As(err, new(x509.UnknownAuthorityError)) {
		return errors.New("the certificate is signed by an authority that is not trusted")
	}
	if errors.As(err, new(x509.HostnameError)) {
		return errors.New("the certificate is for another host")
	}
	if errors.As(err, new(x509.CertificateInvalidError)) {
		return errors.New("the certificate is expired, not valid yet or not meant for a server")
	}
	if lookup, ok := errors.AsType[*net.DNSError](err); ok {
		return fmt.Errorf("cannot resolve host %q", lookup.Name)
	}
	if number, ok := errors.AsType[syscall.Errno](err); ok {
		return number
	}
	for _, known := range []error{io.ErrUnexpectedEOF, io.EOF} {
		if errors.Is(err, known) {
			return known
		}
	}
	if slow, ok := errors.AsType[net.Error](err); ok && slow.Timeout() {
		return errors.New("no reply in time")
	}
	return nil
}

// refusal is an answer that is not a success.
func (c *call) refusal(response *http.Response, a answer) error {
	code := c.cleanCode(a.text("Code"))
	switch {
	case response.StatusCode < http.StatusBadRequest:
		code = codeRedirected
	case code != "":
	case response.StatusCode == http.StatusTooManyRequests:
		code = codeTooManyRequests
	default:
		code = codeUnreadableAnswer
	}
	fault := c.coded(code, fmt.Errorf("HTTP status %d", response.StatusCode))
	fault.RequestID = a.requestID
	fault.RetryAfter = retryAfter(response.Header)
	return fault
}

// retryAfter reads the header's form in seconds; the one with a date would need the peer's clock.
func retryAfter(header http.Header) time.Duration {
	seconds, err := strconv.ParseUint(header.Get("Retry-After"), 10, 31)
	if err != nil {
		return 0
	}
	return min(time.Duration(seconds)*time.Second, maxRetryAfter)
}

// cleanCode keeps a code that looks like one. Whoever answers at the endpoint chooses the text, and it ends in
// conditions and logs.
func (c *call) cleanCode(code string) string {
	switch {
	case code == "":
		return ""
	case !regexp.MustCompile(`^[A-Za-z][A-Za-z0-9._-]{0,63}$`).MatchString(code), c.reveals(code):
		return codeUnknown
	default:
		return code
	}
}

// cleanRequestID keeps a request id that looks like one, for the same reason.
func (c *call) cleanRequestID(id string) string {
	if !regexp.MustCompile(`^[A-Za-z0-9-]{1,64}$`).MatchString(id) || c.reveals(id) {
		return ""
	}
	return id
}

// reveals reports whether a text of the peer's gives away a secret of the call, plain or in base64, whole or in part.
// URL-escaped forms need no look: the percent sign is refused before.
func (c *call) reveals(text string) bool {
	for _, secret := range c.secrets {
		plain := secret.Reveal()
		if len(plain) < minSecret {
			continue
		}
		for _, form := range []string{plain, base64.RawStdEncoding.EncodeToString([]byte(plain)), base64.RawURLEncoding.EncodeToString([]byte(plain))} {
			if strings.Contains(text, form) || len(text) >= minSecret && strings.Contains(form, text) {
				return true
			}
		}
	}
	return false
}
