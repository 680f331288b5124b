package main

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/types"
)

// Times are told twice here. The up time goes on only while a manager leads, the API server answers and nothing is wrong
// with the service: what the operator must do in time is measured by it.

const (
	// seenGrace is how long a token that was once on record may be on none, between two reads of what moves.
	seenGrace = 10 * time.Second
	// writeGrace is how long a token may be in the manager's memory alone: retries of its Secret's write included.
	writeGrace = 40 * time.Second
	// noticeGrace is how much later than it was made a token may be noticed.
	noticeGrace = 2 * tick
)

// book knows every token: where it was on record, and what became of it. It is pure: it is told the time.
type book struct {
	// born is when a token was first seen alive.
	born map[string]time.Time
	// seen holds the tokens that were on record at least once.
	seen map[string]bool
	// excused holds the tokens whose only record we destroyed ourselves.
	excused map[string]bool
	// missing is the up time since which a token is alive and on no record.
	missing map[string]time.Duration
	// lost says by which end of a manager a token went that nobody had written down yet.
	lost map[string]string
	// unread is how many replies with a token never reached the manager, and leftBehind the tokens put down to that.
	unread     int
	leftBehind map[string]bool
	reported   map[string]bool
}

func newBook() *book {
	return &book{
		born: map[string]time.Time{}, seen: map[string]bool{}, excused: map[string]bool{}, missing: map[string]time.Duration{},
		lost: map[string]string{}, leftBehind: map[string]bool{}, reported: map[string]bool{},
	}
}

// record notes that tokens are on record somewhere.
func (b *book) record(ids ...string) {
	for _, id := range ids {
		b.seen[id] = true
		delete(b.missing, id)
		delete(b.lost, id)
		delete(b.leftBehind, id)
	}
}

// excuse notes that the record of tokens was destroyed from outside.
func (b *book) excuse(ids ...string) {
	for _, id := range ids {
		b.excused[id] = true
	}
}

// notice notes which tokens are alive.
func (b *book) notice(now time.Time, alive []string) {
	for _, id := range alive {
		if b.born[id].IsZero() {
			b.born[id] = now
		}
	}
}

// died notes that a manager ended, and returns how many tokens it may have taken along: those nobody has seen yet.
func (b *book) died(how string, at time.Time, alive []string) int {
	count := 0
	for _, id := range alive {
		if born := b.born[id]; !b.seen[id] && b.lost[id] == "" && !b.leftBehind[id] && !born.After(at.Add(noticeGrace)) {
			b.lost[id] = how
			count++
		}
	}
	return count
}

// problem is what is wrong with a token.
type problem struct{ id, what string }

// judge returns what is newly wrong, given the tokens that are alive and those on record now.
func (b *book) judge(up time.Duration, alive []string, onRecord map[string]bool) []problem {
	b.record(slices.Collect(maps.Keys(onRecord))...)
	var problems []problem
	for _, id := range alive {
		if onRecord[id] || b.excused[id] || b.lost[id] != "" || b.leftBehind[id] || b.reported[id] {
			continue
		}
		since, known := b.missing[id]
		if !known {
			b.missing[id] = up
			continue
		}
		if p := b.absent(id, up-since); p.what != "" {
			b.reported[id] = true
			problems = append(problems, p)
		}
	}
	return problems
}

// absent judges a token that is on no record for some time.
func (b *book) absent(id string, gone time.Duration) problem {
	switch {
	case b.seen[id] && gone > seenGrace:
		return problem{id, fmt.Sprintf("it is alive, was on record once, and has been on none for %s", gone.Round(time.Second))}
	case b.seen[id] || gone <= writeGrace:
		return problem{}
	case len(b.leftBehind) < b.unread:
		b.leftBehind[id] = true
		return problem{}
	}
	return problem{id, fmt.Sprintf("it is alive, never was on record in %s, and no kill or lost reply explains it", gone.Round(time.Second))}
}

// orphans lists the tokens of a list that nobody can know, and are therefore not judged.
func (b *book) orphans(alive []string) []string {
	return slices.DeleteFunc(slices.Clone(alive), func(id string) bool { return !b.isLost(id) })
}

func (b *book) isLost(id string) bool { return b.lost[id] != "" || b.leftBehind[id] || b.excused[id] }

// doom is a set of tokens that must go in time.
type doom struct {
	grant types.NamespacedName
	why   string
	ids   map[string]bool
	// carries is a topic filter instead: every token that carries it must go.
	carries string
	// from is when the clock started, overlap how long they may stay; over is for whoever checks, alone.
	from    time.Duration
	overlap time.Duration
	over    bool
}

// late returns how long after the overlap a doomed token is still alive at an up time.
func (d *doom) late(up time.Duration) time.Duration { return up - d.from - d.overlap }

// ending follows what is being deleted, by UID.
type ending struct {
	name string
	from time.Duration
	said bool
}

// endings measures deletions.
type endings struct {
	open    map[string]*ending
	longest time.Duration
	slowest string
	ended   int
}

// follow takes what is being deleted now and returns what has taken too long; each is told once.
func (e *endings) follow(up time.Duration, deleting map[string]string, limit time.Duration) []string {
	var late []string
	for uid, name := range deleting {
		if e.open[uid] == nil {
			e.open[uid] = &ending{name: name, from: up}
		}
	}
	for uid, end := range e.open {
		if took := up - end.from; took > e.longest {
			e.longest, e.slowest = took, end.name
		}
		if _, still := deleting[uid]; !still {
			delete(e.open, uid)
			e.ended++
			continue
		}
		if took := up - end.from; took > limit && !end.said {
			end.said = true
			late = append(late, fmt.Sprintf("%s has been in deletion for %s of working time", end.name, took.Round(time.Second)))
		}
	}
	slices.Sort(late)
	return late
}
