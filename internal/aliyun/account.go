package aliyun

import (
	"context"
	"net/http"
	"regexp"

	"github.com/aliyun/alibaba-cloud-sdk-go/services/sts"

	"github.com/mqtt-token-operator/mqtt-token-operator/internal/token"
)

// AccountID implements token.AccountTeller: it asks the security token service, which answers every key.
func (v *Vendor) AccountID(ctx context.Context, connection token.Connection) (string, error) {
	connection.OnDate = nil // another service's clock
	s, fault := v.open(connection)
	if fault != nil {
		return "", fault
	}
	if s.host, fault = speakerOf(connection).stsHost(); fault != nil {
		return "", fault
	}
	if s.transport, fault = v.stsTransport(); fault != nil {
		return "", fault
	}
	c := s.newCall(opIdentify, sts.CreateGetCallerIdentityRequest())
	answer, err := s.send(ctx, c)
	if err != nil {
		return "", stsWords(token.AsError(err))
	}
	account := answer.text("AccountId")
	if !regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`).MatchString(account) || c.reveals(account) {
		return "", c.unreadable(http.StatusOK, answer, "it does not name the account")
	}
	return account, nil
}

func (v *Vendor) stsTransport() (http.RoundTripper, *token.Error) {
	if v.options.Providers != nil {
		return v.options.Providers, nil
	}
	return v.pools.forBundle(nil)
}

// stsWords says of the security token service what the client says of the token service.
func stsWords(fault *token.Error) *token.Error {
	renamed := *fault
	if code, known := map[string]string{
		codeUnreachable: codeSTSUnreachable, codeUntrusted: codeSTSUntrusted, codeRedirected: codeSTSRedirected,
		codeTimeout: codeSTSTimeout, codeConnectionLost: codeSTSConnectionLost,
	}[fault.Code]; known {
		renamed.Code = code
	}
	m := identityMeaningOf(renamed.Code)
	renamed.Kind, renamed.Hint = m.kind, m.hint
	return &renamed
}
