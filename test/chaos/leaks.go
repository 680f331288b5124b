package main

import (
	"strings"
	"sync"
)

// window is how long a piece of a secret must be to count as one: no identifier or word has so many characters in common
// with a random text.
const window = 16

// leaks finds pieces of secrets in texts.
type leaks struct {
	mu     *sync.Mutex
	pieces map[string]bool
	known  map[string]bool
}

func newLeaks() leaks {
	return leaks{mu: &sync.Mutex{}, pieces: map[string]bool{}, known: map[string]bool{}}
}

// add remembers a secret.
func (l leaks) add(secret string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.known[secret] {
		return
	}
	l.known[secret] = true
	for i := 0; i+window <= len(secret); i += window {
		l.pieces[secret[i:i+window]] = true
	}
}

// in reports whether a text holds a piece of a secret.
func (l leaks) in(text string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, word := range strings.FieldsFunc(text, func(r rune) bool { return strings.ContainsRune(" \n\t\"{},:&|", r) }) {
		for i := 0; i+window <= len(word); i++ {
			if l.pieces[word[i:i+window]] {
				return true
			}
		}
	}
	return false
}

func (l leaks) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.known)
}
