// Package state is the simulator's issuer: accounts, instances and the tokens that were issued for them, judged by one
// clock. The OpenAPI and the broker are two views of it.
package state

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"k8s.io/utils/clock"

	"github.com/mqtt-token-operator/mqtt-token-operator/internal/token"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/topic"
)

// Operation is an operation of the token service, by its name on the wire.
type Operation string

// The three operations.
const (
	Apply  Operation = "ApplyToken"
	Query  Operation = "QueryToken"
	Revoke Operation = "RevokeToken"
)

const (
	minValidity = 60 * time.Second
	maxValidity = 30 * 24 * time.Hour
)

// Caller is who makes a call, for which instance. Its key is proven before.
type Caller struct {
	KeyID      string
	InstanceID string
}

// Request is what ApplyToken takes, as it is on the wire.
type Request struct {
	// Actions is R, W or R,W.
	Actions string
	// Resources are topic filters joined by commas. They are split at commas, so a client that lets one through really
	// buys a second topic, as it would from the service.
	Resources string
	Expires   time.Time
}

// State is the issuer. It is safe for concurrent use.
type State struct {
	clock    clock.PassiveClock
	advanced atomic.Int64 // nanoseconds that Advance moved the clock by
	skew     atomic.Int64 // nanoseconds that SetSkew put it off by
	quotas   Quotas
	switches Switches

	instances map[string]Instance
	roles     map[string]ownedRole // by ARN

	mu        sync.Mutex
	accountOf map[string]string // by key id
	keys      map[string]Key
	tokens    map[string]*Token // by id
	meter     meter
	observers []func()
}

// New returns an issuer that has issued nothing.
func New(options Options) (*State, error) {
	if err := options.validate(); err != nil {
		return nil, err
	}
	if options.Clock == nil {
		options.Clock = clock.RealClock{}
	}
	s := &State{
		clock: options.Clock, quotas: options.Quotas, switches: options.Switches,
		accountOf: map[string]string{}, keys: map[string]Key{}, instances: map[string]Instance{}, tokens: map[string]*Token{},
		roles: map[string]ownedRole{},
	}
	for _, account := range options.Accounts {
		for _, key := range account.Keys {
			s.accountOf[key.ID], s.keys[key.ID] = account.ID, key
		}
		for _, role := range account.Roles {
			s.roles[role.ARN] = ownedRole{Role: role, account: account.ID}
		}
	}
	for _, instance := range options.Instances {
		s.instances[instance.ID] = instance
	}
	return s, nil
}

// Switches returns the chosen behaviours.
func (s *State) Switches() Switches { return s.switches }

// Now is the simulator's time.
func (s *State) Now() time.Time {
	return s.clock.Now().Add(time.Duration(s.advanced.Load() + s.skew.Load()))
}

// Advance moves the simulator's clock forward. What expires by that, expires at once.
func (s *State) Advance(by time.Duration) error {
	if by <= 0 {
		return fmt.Errorf("the clock only moves forward, not by %s", by)
	}
	s.advanced.Add(int64(by))
	s.notify()
	return nil
}

// SetSkew puts the simulator's clock off from its callers' by an amount that may be negative.
func (s *State) SetSkew(by time.Duration) {
	if s.setSkew(by) {
		s.notify()
	}
}

// setSkew leaves each revocation as long ago as it was: after a jump back it would be still to come otherwise.
func (s *State) setSkew(skew time.Duration) (moved bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change := skew - time.Duration(s.skew.Swap(int64(skew)))
	for _, held := range s.tokens {
		if !held.Revoked.IsZero() {
			held.Revoked = held.Revoked.Add(change)
		}
	}
	return change != 0
}

// Skew is what SetSkew put the clock off by.
func (s *State) Skew() time.Duration { return time.Duration(s.skew.Load()) }

// OnChange registers a function to be called whenever a token was revoked or the clock was moved.
func (s *State) OnChange(observe func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.observers = append(s.observers, observe)
}

func (s *State) notify() {
	s.mu.Lock()
	observers := slices.Clone(s.observers)
	s.mu.Unlock()
	for _, observe := range observers {
		observe()
	}
}

// Key returns the key with the id.
func (s *State) Key(id string) (Key, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	key, known := s.keys[id]
	return key, known
}

// Apply issues a token. Each call issues another one, also when it asks for the same.
func (s *State) Apply(caller Caller, request Request) (token.Value, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.Now()
	instance, err := s.admit(now, caller, Apply)
	if err != nil {
		return token.Value{}, err
	}
	kind, filters, err := s.parse(request)
	if err != nil {
		return token.Value{}, err
	}
	if request.Expires.Before(now.Add(minValidity)) {
		return token.Value{}, parameterCheckFailed()
	}
	if !instance.hasParents(filters) {
		return token.Value{}, permissionCheckFailed()
	}
	text, err := newText()
	if err != nil {
		return token.Value{}, err
	}
	issued := &Token{
		ID: IDOf(text), AccountID: instance.Account, KeyID: caller.KeyID, InstanceID: instance.ID, Type: kind,
		Issued: now, Expires: earlier(request.Expires, now.Add(maxValidity)), filters: filters,
	}
	for _, filter := range filters {
		issued.Topics = append(issued.Topics, filter.String())
	}
	s.tokens[issued.ID] = issued
	return text, nil
}

// Query reports whether a token of the caller's instance is valid. A token that nobody issued is not.
func (s *State) Query(caller Caller, text token.Value) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.Now()
	if _, err := s.admit(now, caller, Query); err != nil {
		return false, err
	}
	return s.find(caller.InstanceID, text).validity(now, 0) == Valid, nil
}

// Revoke ends a token of the caller's instance.
func (s *State) Revoke(caller Caller, text token.Value) error {
	found, err := s.revoke(caller, text)
	if err != nil {
		return err
	}
	if found {
		s.notify()
	}
	return nil
}

func (s *State) revoke(caller Caller, text token.Value) (found bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.Now()
	if _, err := s.admit(now, caller, Revoke); err != nil {
		return false, err
	}
	held := s.find(caller.InstanceID, text)
	if held == nil && s.switches.StrictRevoke {
		return false, parameterCheckFailed()
	}
	if held == nil {
		return false, nil
	}
	held.Revocations++
	held.revoke(now)
	return true, nil
}

func (t *Token) revoke(now time.Time) {
	if t != nil && t.Revoked.IsZero() {
		t.Revoked = now
	}
}

// RevokeByID ends a token behind its owner's back. It reports whether the token is known.
func (s *State) RevokeByID(id string) bool {
	s.mu.Lock()
	held := s.tokens[id]
	held.revoke(s.Now())
	s.mu.Unlock()
	if held == nil {
		return false
	}
	s.notify()
	return true
}

// Resolve returns what the issuer knows of the token with the text, and its validity as the broker sees it.
func (s *State) Resolve(text token.Value) (Token, Validity) { return s.Lookup(IDOf(text)) }

// Lookup is Resolve by the token's id.
func (s *State) Lookup(id string) (Token, Validity) {
	s.mu.Lock()
	defer s.mu.Unlock()
	held := s.tokens[id]
	if held == nil {
		return Token{}, Unknown
	}
	return *held, held.validity(s.Now(), s.switches.RevocationDelay)
}

// MayCarry reports whether a client that presents the token may carry the key's id in its username.
func (s *State) MayCarry(keyID string, held Token) bool {
	if s.switches.IssuerKeyOnly {
		return keyID == held.KeyID
	}
	return s.AccountOf(keyID) == held.AccountID
}

// Tokens lists every token that was issued, oldest first.
func (s *State) Tokens() []Token {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]Token, 0, len(s.tokens))
	for _, held := range s.tokens {
		list = append(list, *held)
	}
	slices.SortFunc(list, func(a, b Token) int {
		if order := a.Issued.Compare(b.Issued); order != 0 {
			return order
		}
		return strings.Compare(a.ID, b.ID)
	})
	return list
}

// admit applies what all operations have in common: the quota, then the instance's owner.
func (s *State) admit(now time.Time, caller Caller, op Operation) (Instance, error) {
	account, known := s.accountOf[caller.KeyID]
	if !known {
		return Instance{}, instancePermissionCheckFailed()
	}
	if !s.meter.admit(now, account, op, s.quotas.limit(op)) {
		return Instance{}, overflow(op)
	}
	instance, known := s.instances[caller.InstanceID]
	if !known || instance.Account != account {
		return Instance{}, instancePermissionCheckFailed()
	}
	return instance, nil
}

func (s *State) find(instanceID string, text token.Value) *Token {
	if held := s.tokens[IDOf(text)]; held != nil && held.InstanceID == instanceID {
		return held
	}
	return nil
}

func (s *State) parse(request Request) (token.Type, []topic.Filter, error) {
	kind, known := map[string]token.Type{"R": token.Subscribe, "W": token.Publish, "R,W": token.PublishSubscribe}[request.Actions]
	names := strings.Split(request.Resources, ",")
	ordered := slices.IsSorted(names) && len(slices.Compact(slices.Clone(names))) == len(names)
	if !known || len(names) > token.MaxTopics || s.switches.StrictOrder && !ordered {
		return "", nil, parameterCheckFailed()
	}
	filters := make([]topic.Filter, 0, len(names))
	for _, name := range names {
		filter, err := topic.Parse(name)
		if err != nil {
			return "", nil, parameterCheckFailed()
		}
		filters = append(filters, filter)
	}
	return kind, filters, nil
}

// hasParents reports whether the first level of every filter is a topic of the instance.
func (i Instance) hasParents(filters []topic.Filter) bool {
	return len(i.Topics) == 0 || !slices.ContainsFunc(filters, func(f topic.Filter) bool {
		parent, _, _ := strings.Cut(f.String(), "/")
		return !slices.Contains(i.Topics, parent)
	})
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}
