package main

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

var (
	errForbidden = apierrors.NewForbidden(schema.GroupResource{Resource: "secrets"}, "", errors.New("no RoleBinding"))
	errAway      = errors.New("the API server is away")
)

// cluster is an API server that answers each list by a namespace and a kind, "line-a SecretList", with an error or none.
type cluster struct {
	client.Reader
	mu      sync.Mutex
	answers map[string]error
	asked   chan struct{}
}

func (c *cluster) List(_ context.Context, list client.ObjectList, options ...client.ListOption) error {
	asked := client.ListOptions{}
	asked.ApplyOptions(options)
	c.mu.Lock()
	defer c.mu.Unlock()
	select {
	case c.asked <- struct{}{}:
	default:
	}
	return c.answers[asked.Namespace+" "+list.GetObjectKind().GroupVersionKind().Kind]
}

func (c *cluster) answer(what string, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.answers = maps.Clone(c.answers)
	c.answers[what] = err
}

func TestTheScope(t *testing.T) {
	for sentence, tc := range map[string]struct {
		namespaces []string
		answers    map[string]error
		want       scope
		wantErr    string
	}{
		"is everything unless namespaces are named": {answers: map[string]error{" SecretList": errAway}, want: scope{all: true}},
		"is what is named":                          {namespaces: []string{"line-b", "line-a"}, want: scope{open: []string{"line-b", "line-a"}}},
		"leaves out where Secrets cannot be read": {
			namespaces: []string{"line-a", "line-b"}, answers: map[string]error{"line-a SecretList": errForbidden},
			want: scope{open: []string{"line-b"}, closed: []string{"line-a"}},
		},
		"leaves out where instances cannot be read": {
			namespaces: []string{"line-a", "line-b"}, answers: map[string]error{"line-b MqttInstanceList": errForbidden},
			want: scope{open: []string{"line-a"}, closed: []string{"line-b"}},
		},
		"leaves out where grants cannot be read": {
			namespaces: []string{"line-a", "line-b"}, answers: map[string]error{"line-b MqttTokenGrantList": errForbidden},
			want: scope{open: []string{"line-a"}, closed: []string{"line-b"}},
		},
		"must not be empty": {
			namespaces: []string{"line-a"}, answers: map[string]error{"line-a SecretList": errForbidden},
			wantErr: "none of line-a can be read",
		},
		"is not guessed while the API server is away": {
			namespaces: []string{"line-a", "line-b"}, answers: map[string]error{"line-b MqttInstanceList": errAway},
			wantErr: `namespace line-b can be read: the API server is away`,
		},
	} {
		t.Run(sentence, func(t *testing.T) {
			got, err := newScope(t.Context(), &cluster{answers: tc.answers}, tc.namespaces)
			if diff := cmp.Diff(tc.want, got, cmp.AllowUnexported(scope{})); diff != "" {
				t.Error(diff)
			}
			if (err != nil) != (tc.wantErr != "") || err != nil && !strings.Contains(err.Error(), tc.wantErr) {
				t.Errorf("got %v, want %q", err, tc.wantErr)
			}
		})
	}
}

func TestTheLookoutEndsTheManager(t *testing.T) {
	for sentence, tc := range map[string]struct {
		then    map[string]error
		wantEnd bool
	}{
		"when a namespace can be read":          {then: map[string]error{"line-b SecretList": nil}, wantEnd: true},
		"not while all are closed":              {},
		"not while one can be read in part":     {then: map[string]error{"line-b SecretList": nil, "line-b MqttTokenGrantList": errForbidden}},
		"not while the API server is away":      {then: map[string]error{"line-a SecretList": errAway, "line-b SecretList": errAway}},
		"although another one cannot be looked": {then: map[string]error{"line-a SecretList": errAway, "line-b SecretList": nil}, wantEnd: true},
	} {
		t.Run(sentence, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			api := &cluster{answers: map[string]error{"line-a SecretList": errForbidden, "line-b SecretList": errForbidden}, asked: make(chan struct{}, 100)}
			clock, ended := clocktesting.NewFakeClock(start()), make(chan struct{})
			watching := &lookout{reader: api, closed: []string{"line-a", "line-b"}, clock: clock, end: func() { close(ended) }}
			if watching.NeedLeaderElection() {
				t.Error("a manager that stands by would not look")
			}
			done := make(chan error, 1)
			go func() { done <- watching.Start(ctx) }()
			round := func(asks int) {
				for !clock.HasWaiters() && ctx.Err() == nil {
					<-time.After(time.Millisecond)
				}
				clock.Step(recheckClosed)
				for range asks {
					select {
					case <-api.asked:
					case <-ctx.Done():
						t.Fatal("it does not look")
					}
				}
			}
			round(2) // both are closed
			for _, what := range slices.Sorted(maps.Keys(tc.then)) {
				api.answer(what, tc.then[what])
			}
			round(2)
			if tc.wantEnd {
				<-ended
			} else {
				round(2) // it goes on
				cancel()
			}
			if err := <-done; err != nil {
				t.Error(err)
			}
			select {
			case <-ended:
				if !tc.wantEnd {
					t.Error("it ended the manager")
				}
			default:
			}
		})
	}
}
