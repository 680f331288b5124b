package wire

import (
	"maps"
	"sync"

	"github.com/mqtt-token-operator/mqtt-token-operator/internal/simulator/state"
)

// AllOperations stands for the calls of every operation together.
const AllOperations state.Operation = "all"

// peaks remembers the most calls that came in within one second, by operation. It counts what comes in, whatever becomes
// of it: who keeps to a quota does so before the call. It is safe for concurrent use.
type peaks struct {
	mu     sync.Mutex
	second int64
	now    map[state.Operation]int
	most   map[state.Operation]int
}

func newPeaks() *peaks {
	return &peaks{now: map[state.Operation]int{}, most: map[state.Operation]int{}}
}

// count counts a call that came in during a second, given as a Unix time.
func (p *peaks) count(op state.Operation, second int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if second != p.second {
		p.second = second
		clear(p.now)
	}
	for _, key := range []state.Operation{op, AllOperations} {
		p.now[key]++
		p.most[key] = max(p.most[key], p.now[key])
	}
}

func (p *peaks) get() map[state.Operation]int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return maps.Clone(p.most)
}
