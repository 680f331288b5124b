package wire

import (
	"cmp"
	"net/url"
	"strconv"
	"time"

	"github.com/mqtt-token-operator/mqtt-token-operator/internal/simulator/state"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/token"
)

// defaultSession is how long a role is assumed for by a call that does not say.
const defaultSession = "3600"

// assumeRole answers the two operations of the security token service that make a temporary key.
func (h *Handler) assumeRole(caller state.Caller, op state.Operation, params url.Values) (map[string]any, error) {
	seconds, err := strconv.ParseInt(cmp.Or(params.Get(paramDurationSeconds), defaultSession), 10, 32)
	if err != nil {
		return nil, badRequest("InvalidParameter.DurationSeconds", "The parameter DurationSeconds is wrongly formed.")
	}
	request := state.SessionRequest{
		RoleARN: params.Get(paramRoleARN), Name: params.Get(paramRoleSessionName), Life: time.Duration(seconds) * time.Second,
	}
	var session state.Session
	if op == state.AssumeRoleWithOIDC {
		session, err = h.issuer.AssumeRoleWithOIDC(params.Get(paramOIDCProviderARN), token.NewValue(params.Get(paramOIDCToken)), request)
	} else {
		session, err = h.issuer.AssumeRole(caller.KeyID, params.Get(paramExternalID), request)
	}
	if err != nil {
		return nil, err
	}
	return map[string]any{
		"AssumedRoleUser": map[string]string{"Arn": session.Role.ARN + "/" + session.Name, "AssumedRoleId": "300000000000000001:" + session.Name},
		"Credentials":     spell(session.Key),
	}, nil
}

// spell writes a temporary key as both the security token service and the metadata service do.
func spell(key state.Key) map[string]any {
	return map[string]any{
		"AccessKeyId": key.ID, "AccessKeySecret": key.Secret.Reveal(), "SecurityToken": key.SecurityToken.Reveal(),
		"Expiration": key.Expires.UTC().Format(timestampFormat),
	}
}

func (h *Handler) callerIdentity(caller state.Caller) map[string]any {
	account := h.issuer.AccountOf(caller.KeyID)
	return map[string]any{"AccountId": account, "Arn": "acs:ram::" + account + ":user/simulator", "IdentityType": "RAMUser", "PrincipalId": caller.KeyID}
}
