package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/mqtt-token-operator/mqtt-token-operator/internal/ledger"
)

const (
	// excerptLines is how much of the managers' logs is quoted.
	excerptLines = 60
	// excerptsMost is how many violations are told in full: the first ones say most.
	excerptsMost = 20
)

// broke notes a violation that is about one grant, with all that is known of the grant in a file beside the logs.
func (w *world) broke(i invariant, key types.NamespacedName, format string, arguments ...any) {
	text := fmt.Sprintf(format, arguments...)
	file := filepath.Join(w.folder, fmt.Sprintf("violation-%02d.txt", len(w.all())+1))
	if len(w.all()) < excerptsMost {
		excerpt := fmt.Sprintf("%s: %s\nat %s\n\n%s", i, text, time.Now().UTC().Format(time.RFC3339Nano), w.excerpt(key))
		if err := os.WriteFile(file, []byte(excerpt), 0o600); err == nil {
			text += "; see " + file
		}
	}
	w.violated(i, "%s", text)
}

// excerpt tells what happened to a grant: its tokens, its status, its events and what the managers logged of it.
func (w *world) excerpt(key types.NamespacedName) string {
	lines := []string{"Tokens at the service:"}
	for _, t := range w.cloud.State().Tokens() {
		if strings.HasPrefix(t.Topics[0], prefix(key)) {
			w.mu.Lock()
			seen, lost := w.book.seen[t.ID], w.book.lost[t.ID]
			w.mu.Unlock()
			lines = append(lines, fmt.Sprintf("  %s issued %s revoked %s on record %v lost %q", w.describe(t.ID),
				t.Issued.UTC().Format(time.TimeOnly), t.Revoked.UTC().Format(time.TimeOnly), seen, lost))
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), callWithin)
	defer cancel()
	for _, question := range [][]string{
		{"get", "mtg", key.Name, "-n", key.Namespace, "-o", "yaml"},
		{"get", "secret", key.Name, "-n", key.Namespace, "-o", "jsonpath={.metadata}"},
		{"events", "-n", key.Namespace, "--for=mqtttokengrants/" + key.Name},
	} {
		answer, err := w.cluster.Ask(ctx, question...)
		if err != nil {
			answer = err.Error()
		}
		lines = append(lines, "", "$ kubectl "+strings.Join(question, " "), answer)
	}
	lines = append(lines, "", "What is in the ledger:")
	lines = append(lines, w.pagesOf(ctx, key.String())...)
	lines = append(lines, "", "What the managers logged:")
	return strings.Join(append(lines, w.logged(key)...), "\n") + "\n"
}

// pagesOf tells what the ledger says of a grant, or of all if none is named; no token is among it.
func (w *world) pagesOf(ctx context.Context, grant string) []string {
	var pages corev1.SecretList
	if err := w.api.List(ctx, &pages, client.InNamespace(managerHome), client.MatchingFields{"type": string(ledger.Type)}); err != nil {
		return []string{err.Error()}
	}
	var lines []string
	for i := range pages.Items {
		page := &pages.Items[i]
		facts, err := ledger.ReadFacts(&page.ObjectMeta)
		if err == nil && grant != "" && facts.Grant != grant {
			continue
		}
		lines = append(lines, fmt.Sprintf("  %s of %s in version %s, deleting %v: %+v %v; tokens %s", page.Name, facts.Grant,
			page.ResourceVersion, page.DeletionTimestamp != nil, facts.Entries, err, strings.Join(w.tokensIn(page), " ")))
	}
	return lines
}

// logged quotes the managers' last words about a grant.
func (w *world) logged(key types.NamespacedName) []string {
	var lines []string
	for _, name := range w.managers.logFiles() {
		text, err := os.ReadFile(name)
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(text)) {
			if strings.Contains(line, key.Namespace) && strings.Contains(line, key.Name) {
				lines = append(lines, fmt.Sprintf("  %s: %.600s", filepath.Base(name), strings.TrimSpace(line)))
			}
		}
	}
	return lines[max(0, len(lines)-excerptLines):]
}
