package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/mqtt-token-operator/mqtt-token-operator/api/v1alpha1"
	"github.com/mqtt-token-operator/mqtt-token-operator/test/cluster"
)

const (
	telemetry = "factory/line-a/press/telemetry"
	alarms    = "factory/line-a/press/alarms"
	pressID   = "GID_line_a@@@line-a-press"

	// seenWithin is how long the kubelet may take to bring a change into a mounted volume; it promises 90 s
	// where nobody is busy.
	seenWithin = 2 * time.Minute
	// cutWithin is how long it may take until the broker cuts a client off whose tokens are revoked.
	cutWithin = 30 * time.Second
	// slowCalls is how long the service holds its answers back while the operator is killed.
	slowCalls = 15 * time.Second
	// overlapWithin is longer than the overlap of the grant that is narrowed.
	overlapWithin = 150 * time.Second
	// firstTry is when a client tries dead tokens again for the first time; the waits double.
	firstTry = 30 * time.Second
	// deleteWithin is the deadline of a deletion, and some.
	deleteWithin = 150 * time.Second
)

func (w *world) connectClients(ctx context.Context) error {
	var err error
	if w.dashboard, err = w.deploy(ctx, "dashboard", "dashboard", "--subscribe=factory/line-a/+/telemetry"); err != nil {
		return err
	}
	if _, err := w.dashboard.expect(ctx, "^connected", podWithin); err != nil {
		return err
	}
	if w.press, err = w.deploy(ctx, "press", "press", "--publish="+telemetry+","+alarms); err != nil {
		return err
	}
	if _, err := w.press.expect(ctx, "^connected", podWithin); err != nil {
		return err
	}
	w.Held("a pod is connected as %s, by mounted files alone", pressID)
	if _, err := w.dashboard.expect(ctx, "^received .* from "+telemetry, podWithin); err != nil {
		return err
	}
	w.Held("it publishes to %s, and another pod receives that", telemetry)
	if err := w.keepStale(ctx); err != nil {
		return err
	}
	return w.show(ctx, "-n", line, "get", "pods")
}

// renew asks for new tokens now, and follows them from the Secret to the broker.
func (w *world) renew(ctx context.Context) error {
	w.press.skip()
	before, err := w.secret(ctx, "press")
	if err != nil {
		return err
	}
	if err := w.reissue(ctx, "press"); err != nil {
		return err
	}
	written, err := w.awaitChange(ctx, before)
	if err != nil {
		return err
	}
	seen, err := w.press.expect(ctx, "^files: ", seenWithin)
	if err != nil {
		return err
	}
	w.figures.toFile = seen.at.Sub(written)
	w.Held("new tokens were in the Secret, and %s later in the pod's volume", w.figures.toFile.Round(100*time.Millisecond))
	uploaded, err := w.press.expect(ctx, "^uploaded new tokens", cutWithin)
	if err != nil {
		return err
	}
	w.figures.toUpload = uploaded.at.Sub(seen.at)
	if _, err := w.press.expect(ctx, "^published .* to "+telemetry, cutWithin); err != nil {
		return err
	}
	reconnects, err := w.press.count(ctx, "^(not )?connected", seen.at)
	if err != nil || reconnects > 0 {
		return fmt.Errorf("the client connected anew %d times: %w", reconnects, err)
	}
	w.Held("the client uploaded them %s later and publishes on, over the same connection", w.figures.toUpload.Round(time.Millisecond))
	return nil
}

// reissue asks for new tokens of a grant.
func (w *world) reissue(ctx context.Context, grant string) error {
	_, err := w.node.Ask(ctx, "-n", line, "annotate", "mtg/"+grant, "--overwrite", v1alpha1.ReissueAnnotation+"="+time.Now().Format(time.RFC3339Nano))
	return err
}

// keepStale gives an application a copy of tokens that nobody renews.
func (w *world) keepStale(ctx context.Context) error {
	original, err := w.secret(ctx, "visitor")
	if err != nil {
		return err
	}
	stale := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: line, Name: "stale"}, Data: original.Data}
	if err := w.node.Create(ctx, stale); err != nil {
		return fmt.Errorf("copying a Secret: %w", err)
	}
	if w.staleEnds, err = time.Parse(time.RFC3339, string(original.Data["expires-at"])); err != nil {
		return fmt.Errorf("reading the copy: %w", err)
	}
	if w.stale, err = w.deploy(ctx, "stale", "stale", "--publish=factory/line-a/visitor/telemetry"); err != nil {
		return err
	}
	_, err = w.stale.expect(ctx, "^published", podWithin)
	return err
}

func (w *world) expire(ctx context.Context) error {
	cut, err := w.stale.expect(ctx, "^not connected", max(0, time.Until(w.staleEnds))+cutWithin)
	if err != nil {
		return err
	}
	if cut.at.Before(w.staleEnds) {
		return fmt.Errorf("the client was cut off at %s, before its tokens ended at %s: %s", cut.at, w.staleEnds, cut.text)
	}
	w.Held("it was cut off %s after its tokens' end", cut.at.Sub(w.staleEnds).Round(100*time.Millisecond))
	since := time.Since(cut.at)
	most := 0
	for next := firstTry; next <= since; next = 2*next + firstTry {
		most++
	}
	tries, err := w.stale.count(ctx, "^(not )?connected", cut.at.Add(time.Millisecond))
	if err != nil || tries > most {
		return fmt.Errorf("the client tried %d times to connect with dead tokens, %d would be right: %w", tries, most, err)
	}
	w.Held("in the %s since it tried %d times to connect with them", since.Round(time.Second), tries)
	_, err = w.node.Ask(ctx, "-n", line, "delete", "deployment/stale", "secret/stale", "mtg/visitor")
	return err
}

func (w *world) narrow(ctx context.Context) error {
	w.press.skip()
	patch := `{"spec":{"topics":[{"filter":"` + telemetry + `","actions":["Publish"]}]}}`
	if _, err := w.node.Ask(ctx, "-n", line, "patch", "mtg/press", "--type=merge", "-p", patch); err != nil {
		return err
	}
	if _, err := w.press.expect(ctx, "^uploaded new tokens", seenWithin); err != nil {
		return err
	}
	cut, err := w.press.expect(ctx, "^the broker says: .* code 4", cutWithin)
	if err != nil {
		return err
	}
	if _, err := w.press.expect(ctx, "^not connected", cutWithin); err != nil {
		return err
	}
	w.Held("the client went on to publish to %s and was cut off; %s", alarms, cut.text)
	err = cluster.Eventually(ctx, overlapWithin, func() (string, error) {
		alive, err := w.cloud.alive(ctx)
		if err != nil {
			return "", err
		}
		for _, t := range alive {
			if slices.Contains(t.Topics, alarms) {
				return "a token for " + alarms + " is alive", nil
			}
		}
		return "", nil
	})
	if err != nil {
		return err
	}
	w.Held("after the overlap no token for that topic is alive at the service")
	return w.republish(ctx)
}

// republish rolls the application out anew, without the topic that it may not use any more.
func (w *world) republish(ctx context.Context) error {
	var err error
	if w.press, err = w.deploy(ctx, "press", "press", "--publish="+telemetry); err != nil {
		return err
	}
	if _, err := w.node.Ask(ctx, "-n", line, "rollout", "status", "deployment/press", "--timeout=60s"); err != nil {
		return err
	}
	w.press.skip()
	if _, err := w.press.expect(ctx, "^published .* to "+telemetry, podWithin); err != nil {
		return err
	}
	w.Held("a new version of the application publishes to %s alone", telemetry)
	return nil
}

func (w *world) hold(ctx context.Context) error {
	if _, err := w.node.Ask(ctx, "-n", line, "annotate", "mtg/press", v1alpha1.HoldAnnotation+"=a stolen laptop"); err != nil {
		return err
	}
	if err := w.awaitCutOff(ctx); err != nil {
		return err
	}
	if _, err := w.press.expect(ctx, "^waiting: .* taken back", seenWithin); err != nil {
		return err
	}
	w.Held("the client waits: its files say that the tokens were taken back")
	if err := w.show(ctx, "-n", line, "get", "mtg"); err != nil {
		return err
	}
	if _, err := w.node.Ask(ctx, "-n", line, "annotate", "mtg/press", v1alpha1.HoldAnnotation+"-"); err != nil {
		return err
	}
	if _, err := w.press.expect(ctx, "^connected", seenWithin); err != nil {
		return err
	}
	w.Held("released, it is back by itself")
	return nil
}

// awaitCutOff waits until the broker has cut the press off, and stays sure that it is.
func (w *world) awaitCutOff(ctx context.Context) error {
	began := time.Now()
	cut, err := w.press.expect(ctx, "^not connected", cutWithin)
	if err != nil {
		return err
	}
	connected, err := w.cloud.clients(ctx)
	if err != nil || slices.Contains(connected, pressID) {
		return fmt.Errorf("the broker still has %s: %w", pressID, err)
	}
	w.Held("the client was cut off within %s: %s", time.Since(began).Round(100*time.Millisecond), cut.text)
	return nil
}

// killOperator kills the operator while the service takes its time for a call, and sees to it that another goes on.
func (w *world) killOperator(ctx context.Context) error {
	before, err := w.secret(ctx, "press")
	if err != nil {
		return err
	}
	if err := w.cloud.slowDown(ctx, slowCalls); err != nil {
		return err
	}
	if err := w.reissue(ctx, "press"); err != nil {
		return err
	}
	if err := pause(ctx, slowCalls/3); err != nil { // it calls the service meanwhile
		return err
	}
	if _, err := w.node.Ask(ctx, "-n", managerNamespace, "delete", "pods", "--all", "--grace-period=0", "--force"); err != nil {
		return err
	}
	killed := time.Now()
	if err := w.cloud.slowDown(ctx, 0); err != nil {
		return err
	}
	if err := w.awaitCanceled(ctx); err != nil {
		return err
	}
	written, err := w.awaitChange(ctx, before)
	if err != nil {
		return err
	}
	w.Held("it was killed while the service held its answer back; %s later another had the tokens", written.Sub(killed).Round(time.Second))
	if _, err := w.node.Ask(ctx, "-n", managerNamespace, "rollout", "status", "deployment/"+managerName, "--timeout=90s"); err != nil {
		return err
	}
	failures, err := w.press.count(ctx, "^not connected", killed)
	if err != nil || failures > 0 {
		return fmt.Errorf("the client lost its connection %d times: %w", failures, err)
	}
	w.Held("the operator's Deployment is available again; no client noticed")
	return nil
}

// awaitCanceled waits until the service has seen the operator go away in the middle of a call.
func (w *world) awaitCanceled(ctx context.Context) error {
	return cluster.Eventually(ctx, cutWithin, func() (string, error) {
		calls, err := w.cloud.calls(ctx)
		if err != nil || calls["ApplyToken"].Codes["Canceled"] > 0 {
			return "", err
		}
		return "no call was under way when it was killed", nil
	})
}

// pause lets time pass in which something should happen elsewhere.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (w *world) deleteGrant(ctx context.Context) error {
	w.press.skip()
	began := time.Now()
	if _, err := w.node.Ask(ctx, "-n", line, "delete", "mtg/press", "--timeout=150s"); err != nil {
		return err
	}
	w.Held("`kubectl delete` returned after %s", time.Since(began).Round(100*time.Millisecond))
	return w.awaitCutOff(ctx)
}

func (w *world) deleteNamespace(ctx context.Context) error {
	began := time.Now()
	if _, err := w.node.Ask(ctx, "delete", "namespace", line, "--timeout="+deleteWithin.String()); err != nil {
		return err
	}
	w.Held("`kubectl delete namespace` returned after %s", time.Since(began).Round(100*time.Millisecond))
	err := cluster.Eventually(ctx, cutWithin, func() (string, error) {
		alive, err := w.cloud.alive(ctx)
		if err != nil || len(alive) == 0 {
			return "", err
		}
		return fmt.Sprintf("%d tokens are alive", len(alive)), nil
	})
	if err != nil {
		return err
	}
	w.Held("no token is alive at the service")
	return nil
}

// lookBack checks what must not have happened meanwhile.
func (w *world) lookBack(ctx context.Context) error {
	manager := &app{w: w, name: managerName, namespace: managerNamespace, selector: "app.kubernetes.io/component=manager"}
	lines, err := manager.lines(ctx)
	if err != nil {
		return err
	}
	for _, l := range lines {
		if strings.Contains(strings.ToLower(l.text), "forbidden") {
			return fmt.Errorf("the manager lacks a right: %s", l.text)
		}
		if strings.Contains(l.text, "e2e-key-secret") {
			return fmt.Errorf("the manager's log holds the AccessKey's secret")
		}
	}
	if len(lines) == 0 {
		return fmt.Errorf("the manager has logged nothing")
	}
	w.Held("the manager never lacked a right in %d lines of its log, nor wrote the key's secret there", len(lines))
	calls, err := w.cloud.calls(ctx)
	if err != nil {
		return err
	}
	for _, operation := range slices.Sorted(maps.Keys(calls)) {
		w.Note("%d calls of %s", calls[operation].Total, operation)
	}
	w.Note("from the Secret to the file in the pod: %s; from there to the broker: %s",
		w.figures.toFile.Round(100*time.Millisecond), w.figures.toUpload.Round(time.Millisecond))
	return nil
}

func (w *world) secret(ctx context.Context, name string) (*corev1.Secret, error) {
	secret := &corev1.Secret{}
	if err := w.node.Get(ctx, types.NamespacedName{Namespace: line, Name: name}, secret); err != nil {
		return nil, fmt.Errorf("reading Secret %s: %w", name, err)
	}
	return secret, nil
}

// awaitChange waits until a Secret holds another password, and returns when that was seen.
func (w *world) awaitChange(ctx context.Context, before *corev1.Secret) (time.Time, error) {
	var at time.Time
	err := cluster.Eventually(ctx, podWithin, func() (string, error) {
		now := &corev1.Secret{}
		if err := w.node.Get(ctx, client.ObjectKeyFromObject(before), now); err != nil && !apierrors.IsNotFound(err) {
			return "", err
		}
		if string(now.Data["password"]) == string(before.Data["password"]) {
			return "Secret " + before.Name + " holds the same tokens", nil
		}
		at = time.Now()
		return "", nil
	})
	return at, err
}
