package budget

// order keeps asks in the order in which they go, with sums over those ahead of any one: a tree that is balanced by
// weights as good as random (a treap).
type order struct {
	root *ask
	size int
}

// summary is what matters of several asks.
type summary struct {
	calls int
	// holder is the one that holds its slot from the earliest moment on, next the one of them that is due first and not late;
	// nil: there is none.
	holder, next *ask
}

func (s summary) and(other summary) summary {
	s.calls += other.calls
	if s.holder == nil || other.holder != nil && other.holder.held.Before(s.holder.held) {
		s.holder = other.holder
	}
	if s.next == nil || other.next != nil && other.next.due.Before(s.next.due) {
		s.next = other.next
	}
	return s
}

func (o *order) len() int { return o.size }

func (o *order) insert(a *ask) {
	before, after := split(o.root, a)
	a.left, a.right = nil, nil
	a.sumUp()
	o.root = merge(merge(before, a), after)
	o.size++
}

// remove takes out an ask that is in the order and unchanged in what it is ordered by.
func (o *order) remove(a *ask) {
	o.root = without(o.root, a)
	o.size--
}

// sum sums up the asks that isAhead is true for; all of those come before all others.
func (o *order) sum(isAhead func(*ask) bool) summary {
	var s summary
	for t := o.root; t != nil; {
		if !isAhead(t) {
			t = t.left
			continue
		}
		s = s.and(t.left.total()).and(t.own())
		t = t.right
	}
	return s
}

func split(t, at *ask) (before, after *ask) {
	if t == nil {
		return nil, nil
	}
	if t.goesBefore(at) {
		t.right, after = split(t.right, at)
		t.sumUp()
		return t, after
	}
	before, t.left = split(t.left, at)
	t.sumUp()
	return before, t
}

func merge(before, after *ask) *ask {
	switch {
	case before == nil:
		return after
	case after == nil:
		return before
	case before.weight() > after.weight():
		before.right = merge(before.right, after)
		before.sumUp()
		return before
	}
	after.left = merge(before, after.left)
	after.sumUp()
	return after
}

func without(t, a *ask) *ask {
	switch {
	case t == a:
		return merge(a.left, a.right)
	case a.goesBefore(t):
		t.left = without(t.left, a)
	default:
		t.right = without(t.right, a)
	}
	t.sumUp()
	return t
}
