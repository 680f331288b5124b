package skew

// Known reports whether any answer has told the service's time yet.
func (e *Estimator) Known() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.samples) > 0
}
