package budget

// Waiting counts the callers that wait for each operation, without those that did not come back when they should have.
// It is as of the last time that anybody asked.
func (b *Budget) Waiting() map[Operation]int {
	b.mu.Lock()
	defer b.mu.Unlock()
	waiting := make(map[Operation]int, len(b.lines))
	for operation, l := range b.lines {
		waiting[operation] = l.order.len()
	}
	return waiting
}
