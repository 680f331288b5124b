package state

import (
	"fmt"
	"time"

	"k8s.io/utils/clock"

	"github.com/mqtt-token-operator/mqtt-token-operator/internal/token"
)

// Options describes the cloud that a State stands for.
type Options struct {
	// Clock tells the time; nil means the real one.
	Clock clock.PassiveClock
	// Accounts own keys and instances.
	Accounts []Account
	// Instances are what tokens are bound to.
	Instances []Instance
	// Quotas bound the calls of each account.
	Quotas Quotas
	// Switches choose a behaviour where the service's documents leave it open.
	Switches Switches
}

// Account is a cloud account.
type Account struct {
	ID    string
	Keys  []Key
	Roles []Role
}

// Key is an AccessKey of an account.
type Key struct {
	ID     string
	Secret token.Value
	// SecurityToken must accompany every call of a temporary key; zero for a lasting one.
	SecurityToken token.Value
	// Expires is when a temporary key ends; zero: never.
	Expires time.Time
}

// Instance is an MQTT instance.
type Instance struct {
	ID     string
	Region string
	// Account is the id of the account that owns the instance.
	Account string
	// Topics are the parent topics that exist; empty means any.
	Topics []string
}

// Quotas says how many calls per second an account may make of each operation; zero means any number.
type Quotas struct {
	Apply  int `json:"apply"`
	Query  int `json:"query"`
	Revoke int `json:"revoke"`
}

// DefaultQuotas returns the documented quotas.
// Source: https://help.aliyun.com/en/apsaramq-for-mqtt/mqtt-upgraded/developer-reference/qps-limits.
func DefaultQuotas() Quotas { return Quotas{Apply: 100, Query: 100, Revoke: 5} }

// Switches choose a behaviour where the documents are silent. A client of the service must work in every position.
type Switches struct {
	// IssuerKeyOnly admits only the key that applied for the token in the username, instead of any key of its account.
	IssuerKeyOnly bool `json:"issuerKeyOnly"`
	// CutOnNextUse leaves the connection of a revoked token open until its next publish, subscribe or connect.
	CutOnNextUse bool `json:"cutOnNextUse"`
	// RevocationDelay is how long the broker does not know yet of a revocation.
	RevocationDelay time.Duration `json:"revocationDelay"`
	// StrictRevoke refuses to revoke a token that was never issued.
	StrictRevoke bool `json:"strictRevoke"`
	// StrictOrder refuses resources that are not in strictly ascending order.
	StrictOrder bool `json:"strictOrder"`
	// NoExpireNotice withholds the notice before expiry, which the service does not promise.
	NoExpireNotice bool `json:"noExpireNotice"`
	// RecheckSubscriptions checks each delivery against the tokens that the session holds by then, so that a token
	// upload can take a subscription away.
	RecheckSubscriptions bool `json:"recheckSubscriptions"`
}

func (o *Options) validate() error {
	accounts, err := validateAccounts(o.Accounts)
	if err != nil {
		return err
	}
	if err := validateRoles(o.Accounts); err != nil {
		return err
	}
	instances := map[string]bool{}
	for _, instance := range o.Instances {
		if instance.ID == "" || instances[instance.ID] {
			return fmt.Errorf("instance id %q is empty or given twice", instance.ID)
		}
		if !accounts[instance.Account] {
			return fmt.Errorf("instance %q belongs to the unknown account %q", instance.ID, instance.Account)
		}
		instances[instance.ID] = true
	}
	return nil
}

// validateAccounts returns the ids of the accounts. A key id names one key of one account.
func validateAccounts(accounts []Account) (map[string]bool, error) {
	ids, keys := map[string]bool{}, map[string]bool{}
	for _, account := range accounts {
		if account.ID == "" || ids[account.ID] {
			return nil, fmt.Errorf("account id %q is empty or given twice", account.ID)
		}
		ids[account.ID] = true
		for _, key := range account.Keys {
			if key.ID == "" || keys[key.ID] || key.Secret.IsZero() {
				return nil, fmt.Errorf("key id %q is empty or given twice, or has no secret", key.ID)
			}
			keys[key.ID] = true
		}
	}
	return ids, nil
}

func validateRoles(accounts []Account) error {
	roles := map[string]bool{}
	for _, account := range accounts {
		for _, role := range account.Roles {
			if role.Name() == "" || roles[role.ARN] {
				return fmt.Errorf("role %q is given twice or not of the form acs:ram::ACCOUNT:role/NAME", role.ARN)
			}
			roles[role.ARN] = true
		}
	}
	return nil
}
