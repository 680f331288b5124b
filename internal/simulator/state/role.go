package state

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/mqtt-token-operator/mqtt-token-operator/internal/token"
)

// The operations of the security token service, and what stands for a request to the metadata service.
const (
	AssumeRole         Operation = "AssumeRole"
	AssumeRoleWithOIDC Operation = "AssumeRoleWithOIDC"
	GetCallerIdentity  Operation = "GetCallerIdentity"
	Metadata           Operation = "Metadata"
)

const (
	minSession = 15 * time.Minute
	maxSession = time.Hour
	// instanceSession is how long the metadata service's keys live.
	instanceSession = 6 * time.Hour
	// temporaryPrefix begins the id of every temporary key.
	temporaryPrefix = "STS."
	// oidcAudience is whom the token of a cluster's service account is for.
	oidcAudience = "sts.aliyuncs.com"
)

// Role is a RAM role. Every key of its own account may assume it.
type Role struct {
	// ARN names the role, as in acs:ram::1001:role/mqtt.
	ARN string
	// OIDCProviderARN names the identity provider whose tokens assume the role; empty: none does.
	OIDCProviderARN string
	// OIDCSubject is whose tokens these must be, as "oidc:sub" in the role's trust policy says it; empty: anybody's.
	OIDCSubject string
	// ExternalID must accompany a key that assumes the role, unless empty.
	ExternalID string
}

// Session is a role that somebody has assumed.
type Session struct {
	Key  Key
	Role Role
	Name string
}

// SessionRequest is what the two operations that assume a role take in common.
type SessionRequest struct {
	RoleARN, Name string
	Life          time.Duration
}

// AssumeRole makes a temporary key for somebody who has proven another key of the role's account.
func (s *State) AssumeRole(keyID, externalID string, request SessionRequest) (Session, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	held, known := s.roles[request.RoleARN]
	switch {
	case !known:
		return Session{}, noSuchRole()
	case held.account != s.accountOf[keyID], held.ExternalID != externalID:
		return Session{}, mayNotAssume("NoPermission")
	}
	return s.begin(held, request)
}

// AssumeRoleWithOIDC makes a temporary key for whoever presents a token of the role's identity provider, for the audience
// that clusters use. The token's signature is not checked: nobody signs here.
func (s *State) AssumeRoleWithOIDC(providerARN string, presented token.Value, request SessionRequest) (Session, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	claims, err := s.readOIDC(presented)
	if err != nil {
		return Session{}, err
	}
	held, known := s.roles[request.RoleARN]
	switch {
	case !known:
		return Session{}, noSuchRole()
	case held.OIDCProviderARN == "", held.OIDCProviderARN != providerARN,
		!slices.Contains(claims.Audience, oidcAudience), held.OIDCSubject != "" && held.OIDCSubject != claims.Subject:
		return Session{}, mayNotAssume("AuthenticationFail.NoPermission")
	}
	return s.begin(held, request)
}

// InstanceRole makes a temporary key as the metadata service of a machine with the role does.
func (s *State) InstanceRole(arn string) (Session, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	held, known := s.roles[arn]
	if !known {
		return Session{}, false
	}
	session, err := s.issue(held, SessionRequest{Name: "instance", Life: instanceSession})
	return session, err == nil
}

// AccountOf returns the id of the account that owns a key.
func (s *State) AccountOf(keyID string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.accountOf[keyID]
}

// Expired reports whether a temporary key has ended.
func (s *State) Expired(key Key) bool { return !key.Expires.IsZero() && !s.Now().Before(key.Expires) }

// Name is the role's name without its account.
func (r Role) Name() string {
	_, name, _ := strings.Cut(r.ARN, ":role/")
	return name
}

// oidcClaims are what a token says.
type oidcClaims struct {
	Subject  string   `json:"sub"`
	Audience audience `json:"aud"`
	Expires  *float64 `json:"exp"`
}

// audience is one text or a list of them, as RFC 7519 has it.
type audience []string

// UnmarshalJSON reads either.
func (a *audience) UnmarshalJSON(text []byte) error {
	var one string
	if json.Unmarshal(text, &one) == nil {
		*a = audience{one}
		return nil
	}
	var all []string
	err := json.Unmarshal(text, &all)
	*a = all
	return err
}

// readOIDC reads a token's claims, and refuses one that has ended.
func (s *State) readOIDC(presented token.Value) (oidcClaims, error) {
	var read oidcClaims
	parts := strings.Split(presented.Reveal(), ".")
	if len(parts) != 3 {
		return read, invalidOIDCToken()
	}
	text, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil || json.Unmarshal(text, &read) != nil || read.Expires == nil {
		return read, invalidOIDCToken()
	}
	if float64(s.Now().Unix()) >= *read.Expires {
		return read, expiredOIDCToken()
	}
	return read, nil
}

func (s *State) begin(held ownedRole, request SessionRequest) (Session, error) {
	if request.Life < minSession || request.Life > maxSession {
		return Session{}, &Error{
			Status: http.StatusBadRequest, Code: "InvalidParameter.DurationSeconds",
			Message: "The Min/Max value of DurationSeconds is 15min/1hr.",
		}
	}
	return s.issue(held, request)
}

func (s *State) issue(held ownedRole, request SessionRequest) (Session, error) {
	random := make([]byte, 96)
	if _, err := rand.Read(random); err != nil {
		return Session{}, fmt.Errorf("drawing a temporary key: %w", err)
	}
	key := Key{
		ID:            temporaryPrefix + base64.RawURLEncoding.EncodeToString(random[:15]),
		Secret:        token.NewValue(base64.RawURLEncoding.EncodeToString(random[15:45])),
		SecurityToken: token.NewValue(base64.StdEncoding.EncodeToString(random[45:])),
		Expires:       s.Now().Add(request.Life).Truncate(time.Second),
	}
	s.keys[key.ID], s.accountOf[key.ID] = key, held.account
	return Session{Key: key, Role: held.Role, Name: request.Name}, nil
}

// ownedRole is a role and the account that it belongs to.
type ownedRole struct {
	Role
	account string
}

func noSuchRole() *Error {
	return &Error{Status: http.StatusNotFound, Code: "EntityNotExist.Role", Message: "The specified Role not exists ."}
}

func mayNotAssume(code string) *Error {
	return &Error{
		Status: http.StatusForbidden, Code: code,
		Message: "You are not authorized to do this action. You should be authorized by RAM.",
	}
}

func invalidOIDCToken() *Error {
	return &Error{Status: http.StatusBadRequest, Code: "AuthenticationFail.OIDCToken.Invalid", Message: "This OIDC Token is invalid."}
}

func expiredOIDCToken() *Error {
	return &Error{Status: http.StatusBadRequest, Code: "AuthenticationFail.OIDCToken.Expired", Message: "This OIDC Token has expired."}
}
