package wire

import (
	"net/url"
	"sync"
	"time"

	"k8s.io/utils/clock"

	"github.com/mqtt-token-operator/mqtt-token-operator/internal/simulator/state"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/token"
)

// The names of parameters, as the service spells them.
const (
	paramAction           = "Action"
	paramVersion          = "Version"
	paramAccessKeyID      = "AccessKeyId"
	paramSecurityToken    = "SecurityToken"
	paramSignature        = "Signature"
	paramSignatureMethod  = "SignatureMethod"
	paramSignatureVersion = "SignatureVersion"
	paramSignatureNonce   = "SignatureNonce"
	paramTimestamp        = "Timestamp"
	paramInstanceID       = "InstanceId"
	paramActions          = "Actions"
	paramResources        = "Resources"
	paramExpireTime       = "ExpireTime"
	paramToken            = "Token"
	paramRoleARN          = "RoleArn"
	paramRoleSessionName  = "RoleSessionName"
	paramDurationSeconds  = "DurationSeconds"
	paramExternalID       = "ExternalId"
	paramOIDCProviderARN  = "OIDCProviderArn"
	paramOIDCToken        = "OIDCToken"
)

const (
	apiVersion      = "2020-04-20"
	stsVersion      = "2015-04-01"
	timestampFormat = "2006-01-02T15:04:05Z"
	// maxSkew is how far a call's timestamp may be off the gateway's clock; a nonce is remembered as long as a call with
	// it could pass that.
	maxSkew = 15 * time.Minute
)

// gate checks what the API gateway checks before the service sees a call.
type gate struct {
	issuer *state.State
	// wall judges the freshness of signatures: callers stamp them by the real clock, not by the simulator's.
	wall clock.PassiveClock

	mu     sync.Mutex
	nonces map[nonce]time.Time // when it can be forgotten
	sweep  time.Time           // when to look for what can be forgotten
}

type nonce struct{ keyID, text string }

func newGate(issuer *state.State, wall clock.PassiveClock) *gate {
	return &gate{issuer: issuer, wall: wall, nonces: map[nonce]time.Time{}}
}

func (g *gate) now() time.Time { return g.wall.Now().Add(g.issuer.Skew()) }

func operation(action string) state.Operation {
	switch op := state.Operation(action); op {
	case state.Apply, state.Query, state.Revoke, state.AssumeRole, state.AssumeRoleWithOIDC, state.GetCallerIdentity:
		return op
	default:
		return ""
	}
}

func version(op state.Operation) string {
	switch op {
	case state.AssumeRole, state.AssumeRoleWithOIDC, state.GetCallerIdentity:
		return stsVersion
	default:
		return apiVersion
	}
}

// admit returns who makes the call, or the gateway's refusal.
func (g *gate) admit(method string, params url.Values) (state.Caller, error) {
	op := operation(params.Get(paramAction))
	if params.Get(paramAction) == "" {
		return state.Caller{}, missing(paramAction)
	}
	if op == "" || params.Get(paramVersion) != version(op) {
		return state.Caller{}, unknownAPI()
	}
	for _, name := range required(op) {
		if params.Get(name) == "" {
			return state.Caller{}, missing(name)
		}
	}
	if op == state.AssumeRoleWithOIDC { // the token in it is the proof
		return state.Caller{}, g.checkTimestamp(params.Get(paramTimestamp))
	}
	if params.Get(paramSignatureMethod) != "HMAC-SHA1" || params.Get(paramSignatureVersion) != "1.0" {
		return state.Caller{}, unsupportedSignature()
	}
	if err := g.checkTimestamp(params.Get(paramTimestamp)); err != nil {
		return state.Caller{}, err
	}
	if err := g.checkKey(method, params); err != nil {
		return state.Caller{}, err
	}
	keyID := params.Get(paramAccessKeyID)
	if !g.useNonce(nonce{keyID: keyID, text: params.Get(paramSignatureNonce)}) {
		return state.Caller{}, nonceUsed()
	}
	return state.Caller{KeyID: keyID, InstanceID: params.Get(paramInstanceID)}, nil
}

func required(op state.Operation) []string {
	signed := []string{
		paramAccessKeyID, paramSignature, paramSignatureMethod, paramSignatureVersion, paramSignatureNonce, paramTimestamp,
	}
	switch op {
	case state.GetCallerIdentity:
		return signed
	case state.AssumeRole:
		return append(signed, paramRoleARN, paramRoleSessionName)
	case state.AssumeRoleWithOIDC:
		return []string{paramTimestamp, paramRoleARN, paramOIDCProviderARN, paramOIDCToken, paramRoleSessionName}
	case state.Apply:
		return append(signed, paramInstanceID, paramActions, paramResources, paramExpireTime)
	default:
		return append(signed, paramInstanceID, paramToken)
	}
}

func (g *gate) checkTimestamp(text string) error {
	sent, err := time.Parse(timestampFormat, text)
	if err != nil {
		return malformedTimestamp()
	}
	if g.now().Sub(sent).Abs() > maxSkew {
		return expiredTimestamp()
	}
	return nil
}

func (g *gate) checkKey(method string, params url.Values) error {
	key, known := g.issuer.Key(params.Get(paramAccessKeyID))
	if !known {
		return unknownKey()
	}
	if params.Get(paramSecurityToken) == "" && !key.SecurityToken.IsZero() {
		return missing(paramSecurityToken)
	}
	if !sameSecret(token.NewValue(params.Get(paramSecurityToken)), key.SecurityToken) {
		return wrongSecurityToken()
	}
	if g.issuer.Expired(key) {
		return expiredSecurityToken()
	}
	if text := stringToSign(method, params); !signatureMatches(key.Secret, text, params.Get(paramSignature)) {
		return signatureDoesNotMatch(text)
	}
	return nil
}

// useNonce reports whether the nonce is fresh, and remembers it.
func (g *gate) useNonce(used nonce) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := g.now()
	if now.After(g.sweep) {
		for old, until := range g.nonces {
			if now.After(until) {
				delete(g.nonces, old)
			}
		}
		g.sweep = now.Add(maxSkew)
	}
	if until, seen := g.nonces[used]; seen && !now.After(until) {
		return false
	}
	g.nonces[used] = now.Add(2 * maxSkew)
	return true
}

// sameSecret compares in constant time, by keyed hashes.
func sameSecret(a, b token.Value) bool { return a.Fingerprint("compare") == b.Fingerprint("compare") }
