package aliyun

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	clocktesting "k8s.io/utils/clock/testing"

	"github.com/mqtt-token-operator/mqtt-token-operator/internal/token"
)

// issuing is a fetch whose answers a test scripts: each call waits for the next.
type issuing struct {
	answers chan any // the id of a key, or a *token.Error
	begun   chan struct{}
}

func (i *issuing) fetch() (keys, lifetime, *token.Error) {
	i.begun <- struct{}{}
	switch answer := (<-i.answers).(type) {
	case string:
		return keys{id: answer}, sessionLifetime(), nil
	case *token.Error:
		return keys{}, lifetime{}, answer
	default:
		panic("not an answer")
	}
}

func startSource() (*issuing, *source, *clocktesting.FakeClock) {
	i := &issuing{answers: make(chan any, 1), begun: make(chan struct{}, 16)}
	wall := clocktesting.NewFakeClock(time.Date(2031, 3, 5, 7, 0, 0, 0, time.UTC))
	return i, newSource(i.fetch, wall.Now), wall
}

// settle waits until the refresh that runs is done.
func settle(s *source) {
	s.mu.Lock()
	attempt := s.running
	s.mu.Unlock()
	if attempt != nil {
		<-attempt.done
	}
}

func wantKey(t *testing.T, s *source, id string) {
	t.Helper()
	got, err := s.current(t.Context())
	if err != nil || got.id != id {
		t.Errorf("got %q, %v, want %q", got.id, err, id)
	}
}

func TestManyCallersShareOneRefresh(t *testing.T) {
	i, s, _ := startSource()
	var callers sync.WaitGroup
	for range 50 {
		callers.Go(func() { wantKey(t, s, "first") })
	}
	<-i.begun
	i.answers <- "first"
	callers.Wait()
	wantKey(t, s, "first")
	if len(i.begun) != 0 {
		t.Errorf("%d more refreshes were begun", len(i.begun))
	}
}

func TestKeysAreRefreshedBeforeTheyEnd(t *testing.T) {
	i, s, wall := startSource()
	i.answers <- "first"
	wantKey(t, s, "first")
	wall.Step(sessionLife - refreshBefore)
	wantKey(t, s, "first") // nobody waits for the refresh
	i.answers <- "second"
	settle(s)
	wantKey(t, s, "second")
}

func TestAFailedRefreshKeepsKeysUntilTheyEnd(t *testing.T) {
	i, s, wall := startSource()
	i.answers <- "first"
	wantKey(t, s, "first")
	failed := identityFault(codeSTSUnreachable, nil)
	for wall.Step(sessionLife - refreshBefore); wall.Now().Before(s.endsAt); wall.Step(time.Minute) {
		i.answers <- failed
		wantKey(t, s, "first")
		settle(s)
	}
	i.answers <- failed
	if _, err := s.current(t.Context()); !errors.Is(err, failed) {
		t.Errorf("got %v after the end", err)
	}
	for len(i.begun) > 0 {
		<-i.begun
	}
	if _, err := s.current(t.Context()); !errors.Is(err, failed) || len(i.begun) != 0 {
		t.Errorf("got %v, and %d refreshes right after one that failed", err, len(i.begun))
	}
	wall.Step(retryPause)
	i.answers <- "second"
	wantKey(t, s, "second")
}

func TestACallerThatGoesAwayDoesNotEndTheRefresh(t *testing.T) {
	i, s, _ := startSource()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.current(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	i.answers <- "first"
	wantKey(t, s, "first")
	if len(i.begun) != 1 {
		t.Errorf("%d refreshes were begun", len(i.begun))
	}
}

func TestRefusedKeysAreDroppedOnce(t *testing.T) {
	i, s, wall := startSource()
	i.answers <- "first"
	wantKey(t, s, "first")
	s.reject(keys{id: "first"})
	wantKey(t, s, "first") // so new that others would be refused as well
	wall.Step(retryPause)
	s.reject(keys{id: "an older one"})
	wantKey(t, s, "first")
	s.reject(keys{id: "first"})
	i.answers <- "second"
	wantKey(t, s, "second")
}

func TestTheSTSIsNearTheProcess(t *testing.T) {
	vpc := speaker{region: "cn-hangzhou", vpc: true}
	for sentence, row := range map[string]struct {
		environment map[string]string
		speaker     speaker
		want        string
		code        string
	}{
		"without a region it is the central one":      {want: "sts.aliyuncs.com"},
		"it is the region's":                          {speaker: speaker{region: "cn-hangzhou"}, want: "sts.cn-hangzhou.aliyuncs.com"},
		"in a private network it is that network's":   {speaker: vpc, want: "sts-vpc.cn-hangzhou.aliyuncs.com"},
		"the environment says which region":           {environment: map[string]string{envSTSRegion: "cn-beijing"}, speaker: vpc, want: "sts-vpc.cn-beijing.aliyuncs.com"},
		"the environment says which network":          {environment: map[string]string{envVPCEndpoint: "True"}, speaker: speaker{region: "cn-hangzhou"}, want: "sts-vpc.cn-hangzhou.aliyuncs.com"},
		"the environment's endpoint beats the region": {environment: map[string]string{envSTSEndpoint: "sts.example.com:8443"}, speaker: vpc, want: "sts.example.com:8443"},
		"an endpoint with a path is none":             {environment: map[string]string{envSTSEndpoint: "sts.example.org/x"}, code: codeInvalidEndpoint},
		"a region is one label":                       {speaker: speaker{region: "evil.example"}, code: codeInvalidRegion},
	} {
		t.Run(sentence, func(t *testing.T) {
			for _, name := range []string{envSTSEndpoint, envSTSRegion, envVPCEndpoint} {
				t.Setenv(name, row.environment[name])
			}
			host, fault := row.speaker.stsHost()
			code := ""
			if fault != nil {
				code = fault.Code
			}
			if diff := cmp.Diff([]string{row.want, row.code}, []string{host, code}); diff != "" {
				t.Error(diff)
			}
		})
	}
}
