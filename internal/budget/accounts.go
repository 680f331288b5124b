package budget

import (
	"maps"
	"sync"
	"time"
)

// keptAccount is how long an account is remembered that no instance uses: by then a halved rate has recovered, and an
// instance that is connected anew does not start a new second.
const keptAccount = 3 * time.Minute

// Accounts holds one budget for each account, shared by its instances, all under one ceiling. It is safe for concurrent
// use.
type Accounts struct {
	mu       sync.Mutex
	ceiling  *Ceiling
	accounts map[string]*account
	of       map[string]string // instance: account
}

type account struct {
	budget *Budget
	// stated are the quotas that each instance states.
	stated map[string]map[Operation]int32
	// left is when the last instance left.
	left time.Time
}

// NewAccounts returns an empty registry, under the product's ceiling.
func NewAccounts() *Accounts {
	return &Accounts{ceiling: NewCeiling(AddressCeiling), accounts: map[string]*account{}, of: map[string]string{}}
}

// Join returns the budget of an account, for an instance that states the quota. The smallest quota that any of its
// instances states for an operation counts. An instance that was with another account leaves that. As long as any instance
// uses an account, its budget stays the same.
func (s *Accounts) Join(name, instance string, perSecond map[Operation]int32, now time.Time) *Budget {
	s.mu.Lock()
	defer s.mu.Unlock()
	if before, joined := s.of[instance]; joined && before != name {
		s.leave(instance, now)
	}
	s.forget(now)
	joined, known := s.accounts[name]
	if !known {
		joined = &account{budget: New(s.ceiling, nil), stated: map[string]map[Operation]int32{}}
		s.accounts[name] = joined
	}
	s.of[instance] = name
	joined.stated[instance] = maps.Clone(perSecond)
	joined.resize(now)
	return joined.budget
}

// Leave ends an instance's use of its account: the quota it stated no longer counts.
func (s *Accounts) Leave(instance string, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.leave(instance, now)
	s.forget(now)
}

func (s *Accounts) leave(instance string, now time.Time) {
	left, joined := s.accounts[s.of[instance]]
	delete(s.of, instance)
	if !joined {
		return
	}
	delete(left.stated, instance)
	if len(left.stated) == 0 { // what still waits there does so at the last rate
		left.left = now
		return
	}
	left.resize(now)
}

func (s *Accounts) forget(now time.Time) {
	for name, a := range s.accounts {
		if len(a.stated) == 0 && now.Sub(a.left) > keptAccount {
			delete(s.accounts, name)
		}
	}
}

func (a *account) resize(now time.Time) {
	smallest := map[Operation]int32{}
	for _, quota := range a.stated {
		for operation, n := range quota {
			if known, stated := smallest[operation]; !stated || n < known {
				smallest[operation] = n
			}
		}
	}
	a.budget.Resize(smallest, now)
}
