package token

import (
	"context"
	"time"
)

// Service is a token service as one credential sees one instance. Implementations are safe for concurrent use, honour
// the context's end, never retry by themselves and return errors as *Error only. All of them pass tokentest.Run.
type Service interface {
	// Apply asks for a new token with exactly this scope that ends at expires (rounded down to the millisecond). Each
	// call makes a new token: a caller whose answer got lost cannot ask for the same one again. A nil error comes with a
	// value that is not zero.
	Apply(ctx context.Context, scope Scope, expires time.Time) (Value, error)

	// Query reports whether the service takes the token for valid now. A value that the service has never issued is not
	// valid; that is an answer, not an error.
	Query(ctx context.Context, value Value) (valid bool, err error)

	// Revoke ends a token early. It is idempotent: a token that has expired, is revoked already or was never issued
	// counts as revoked.
	Revoke(ctx context.Context, value Value) error
}

// Dialer opens the Service that a connection describes. It makes no call; it fails only on a description that can
// never work, with an *Error of KindInstance.
type Dialer func(Connection) (Service, error)

// AccountTeller tells which account a connection's key belongs to. It fails with an *Error, as a Service does.
type AccountTeller func(ctx context.Context, connection Connection) (accountID string, err error)

// Connection says where an instance is and who speaks for it.
type Connection struct {
	// InstanceID names the instance that tokens are bound to.
	InstanceID string
	// Region is the id of the region that the instance lives in.
	Region string
	// VPC selects the endpoint inside the region's private network instead of the public one.
	VPC bool
	// Endpoint overrides the host (and port) that Region and VPC imply; always reached by TLS.
	Endpoint string
	// CABundle holds PEM certificates to trust instead of the system's; nil means the system's.
	CABundle []byte
	// AccessKeyID names the key, for an identity that has one. It is not secret: clients carry it in their username.
	AccessKeyID string
	// AccessKeySecret signs the calls.
	AccessKeySecret Value
	// SecurityToken accompanies a temporary key; zero for a lasting one.
	SecurityToken Value
	// Identity says how to come by the key; the zero value is the key above itself.
	Identity Identity
	// OnDate learns of the moment that the service put on each answer, whatever the answer was, and of our own clock
	// right before the request went out and after the answer began. Calls that share a service may call it at the same
	// time. Nil: nobody does.
	OnDate func(served, sent, received time.Time)
}
