package state

import "time"

// meter counts the calls of the current second, per account and operation.
type meter struct {
	second int64
	calls  map[meterKey]int
}

type meterKey struct {
	account string
	op      Operation
}

// admit counts a call and reports whether the limit allows it. A limit of zero allows every call.
func (m *meter) admit(now time.Time, account string, op Operation, limit int) bool {
	if limit == 0 {
		return true
	}
	if second := now.Unix(); m.calls == nil || second != m.second {
		m.second, m.calls = second, map[meterKey]int{}
	}
	key := meterKey{account: account, op: op}
	m.calls[key]++
	return m.calls[key] <= limit
}

func (q Quotas) limit(op Operation) int {
	return map[Operation]int{Apply: q.Apply, Query: q.Query, Revoke: q.Revoke}[op]
}
