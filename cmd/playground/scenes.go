package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mqtt-token-operator/mqtt-token-operator/api/v1alpha1"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/simulator/state"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/token"
	"github.com/mqtt-token-operator/mqtt-token-operator/pkg/mqttcred"
	"github.com/mqtt-token-operator/mqtt-token-operator/test/cluster"
	"github.com/mqtt-token-operator/mqtt-token-operator/test/device"
)

// Topics of the story.
const (
	telemetry      = "factory/line-a/press-07/telemetry"
	allTelemetry   = "factory/line-a/+/telemetry"
	foreignTopic   = "factory/line-a/press-08/telemetry"
	foreignNetwork = "factory/line-b/commands/#"
)

// Codes of the broker's notice before it cuts a client off.
const (
	codeRevoked = 3
	codeTopic   = 4
)

const (
	// afterExpiry is how long past an expiry the client must still be at it: the broker looks several times a second.
	afterExpiry = 2 * time.Second
	// publishEvery is how often a client publishes while the story waits.
	publishEvery = 5 * time.Second
)

func (g *playground) connectClients(ctx context.Context) error {
	if err := errors.Join(g.mount(ctx, pressName, &g.press), g.mount(ctx, dashboardName, &g.dashboard)); err != nil {
		return err
	}
	var err error
	if g.dashboard.Device, err = device.Connect(g.dashboard.mount.Folder); err != nil {
		return err
	}
	if err := g.dashboard.Subscribe(allTelemetry); err != nil {
		return err
	}
	g.Held("%s is connected over TLS and listens to %s", dashboardName, allTelemetry)
	if err := g.borrowMosquitto(ctx); err != nil {
		return err
	}
	if g.press.Device, err = device.Connect(g.press.mount.Folder); err != nil {
		return err
	}
	if err := g.deliver(ctx); err != nil {
		return err
	}
	g.Held("%s published to %s, and %s received it", pressName, telemetry, dashboardName)
	return nil
}

// borrowMosquitto lets another client use the same files, where there is one.
func (g *playground) borrowMosquitto(ctx context.Context) error {
	const message = "from another program"
	switch done, err := publishByMosquitto(ctx, g.press.mount.Folder, telemetry, message); {
	case err != nil:
		return err
	case !done:
		g.Note("%s is not installed here; going on without", mosquittoPublisher)
		return nil
	}
	if err := g.dashboard.Expect(ctx, message); err != nil {
		return err
	}
	g.Held("%s published with the files of %s", mosquittoPublisher, pressName)
	return nil
}

// mount lays a grant's Secret down as the kubelet would.
func (g *playground) mount(ctx context.Context, name string, a *app) error {
	secret := &corev1.Secret{}
	if err := g.cluster.Get(ctx, grantKey(name), secret); err != nil {
		return fmt.Errorf("reading the token Secret: %w", err)
	}
	if err := a.mount.Lay(secret.Data); err != nil {
		return err
	}
	files, err := mqttcred.Load(a.mount.Folder)
	for _, t := range files.Tokens {
		g.secrets = append(g.secrets, t.Token)
	}
	return err
}

// deliver lets the press publish a message and the dashboard receive it.
func (g *playground) deliver(ctx context.Context) error {
	g.messages++
	message := fmt.Sprintf("cycle %d", g.messages)
	if err := g.press.Publish(telemetry, message); err != nil {
		return err
	}
	return g.dashboard.Expect(ctx, message)
}

func (g *playground) overstep(ctx context.Context) error {
	if err := g.press.Publish(foreignTopic, "not mine"); err == nil {
		return fmt.Errorf("%s could publish to %s", pressName, foreignTopic)
	}
	said, err := g.press.CutOff(ctx)
	if err != nil {
		return err
	}
	if said.Code != codeTopic {
		return fmt.Errorf("the broker's notice has code %d, not %d", said.Code, codeTopic)
	}
	g.Held("%s tried to publish to %s and was cut off: notice %d, topic not permitted", pressName, foreignTopic, said.Code)
	if g.press.Device, err = device.Connect(g.press.mount.Folder); err != nil {
		return err
	}
	if err := g.deliver(ctx); err != nil {
		return err
	}
	g.Held("it connects again and goes on with its own topic")
	return nil
}

func (g *playground) askForTooMuch(ctx context.Context) error {
	before := len(g.cloud.State().Tokens())
	grant := &v1alpha1.MqttTokenGrant{
		ObjectMeta: metav1.ObjectMeta{Namespace: grantKey("").Namespace, Name: "curious"},
		Spec: v1alpha1.MqttTokenGrantSpec{
			InstanceRef: v1alpha1.InstanceReference{Name: instanceKey().Name, Namespace: instanceKey().Namespace},
			Client:      v1alpha1.Client{GroupID: "GID_line_a", DeviceID: "line-a-curious"},
			Topics:      []v1alpha1.TopicPermission{{Filter: foreignNetwork, Actions: []v1alpha1.Action{v1alpha1.ActionSubscribe}}},
		},
	}
	if err := g.cluster.Create(ctx, grant); err != nil {
		return fmt.Errorf("creating a grant: %w", err)
	}
	var denied *metav1.Condition
	err := cluster.Eventually(ctx, cluster.StartWithin, func() (string, error) {
		if err := g.cluster.Get(ctx, grantKey(grant.Name), grant); err != nil {
			return "", err
		}
		denied = apimeta.FindStatusCondition(grant.Status.Conditions, v1alpha1.AuthorizedCondition)
		if denied == nil || denied.Status != metav1.ConditionFalse {
			return "the grant is not denied", nil
		}
		return "", nil
	})
	if err != nil {
		return err
	}
	if denied.Reason != v1alpha1.ReasonTopicNotAllowed {
		return fmt.Errorf("the grant is denied with reason %s, not %s", denied.Reason, v1alpha1.ReasonTopicNotAllowed)
	}
	g.Held("a grant for another line's topic is denied: Authorized=False, %s", denied.Reason)
	g.Note("%s", denied.Message)
	if after := len(g.cloud.State().Tokens()); after != before {
		return fmt.Errorf("%d token(s) were applied for all the same", after-before)
	}
	g.Held("no token was applied for")
	return nil
}

// renew waits for the operator to renew the press's tokens and lets the client take them up without reconnecting.
func (g *playground) renew(ctx context.Context) error {
	first, err := mqttcred.Load(g.press.mount.Folder)
	if err != nil {
		return err
	}
	grant, err := g.awaitRenewal(ctx, first)
	if err != nil {
		return err
	}
	left := time.Until(first.ExpiresAt).Round(time.Second)
	if left <= 0 {
		return errors.New("the first tokens had expired by then")
	}
	g.Held("%s has new tokens, %s before the first ones expire: %s", pressName, left, describeTokens(grant))
	if err := g.mount(ctx, pressName, &g.press); err != nil {
		return err
	}
	if err := g.press.Upload(g.press.mount.Folder); err != nil {
		return err
	}
	if err := g.deliver(ctx); err != nil {
		return err
	}
	g.Held("the client uploaded them to %s over its open connection and goes on publishing", device.TopicUpload)
	return nil
}

// awaitRenewal waits until the Secret holds other tokens than the first ones, while the client goes on publishing.
func (g *playground) awaitRenewal(ctx context.Context, first mqttcred.Credentials) (*v1alpha1.MqttTokenGrant, error) {
	grant := &v1alpha1.MqttTokenGrant{}
	published := time.Now()
	err := cluster.Eventually(ctx, time.Until(first.ExpiresAt), func() (string, error) {
		if err := g.cluster.Get(ctx, grantKey(pressName), grant); err != nil {
			return "", err
		}
		if expires := grant.Status.ExpirationTime; expires != nil && expires.After(first.ExpiresAt) {
			return "", nil
		}
		g.Tick(fmt.Sprintf("renewal due in %s; %d messages delivered so far", until(first.RenewAt), g.messages))
		return "the tokens are the first ones", g.deliverNowAndThen(ctx, &published)
	})
	return grant, err
}

func (g *playground) deliverNowAndThen(ctx context.Context, last *time.Time) error {
	if time.Since(*last) < publishEvery {
		return nil
	}
	*last = time.Now()
	return g.deliver(ctx)
}

// outlive waits until the first tokens have expired, while the client goes on publishing.
func (g *playground) outlive(ctx context.Context) error {
	first := g.firstTokens()
	if len(first) == 0 {
		return errors.New("the simulator does not know the first tokens")
	}
	published := time.Now()
	err := cluster.Eventually(ctx, cluster.StartWithin+cluster.StartWithin, func() (string, error) {
		if time.Since(first[0].Expires) > afterExpiry {
			return "", nil
		}
		g.Tick(fmt.Sprintf("the first tokens expire in %s; %d messages delivered so far", until(first[0].Expires), g.messages))
		return "the first tokens have not expired", g.deliverNowAndThen(ctx, &published)
	})
	if err != nil {
		return err
	}
	for _, t := range first {
		if _, validity := g.cloud.State().Lookup(t.ID); validity != state.Expired {
			return fmt.Errorf("a first token is %s at the service, not expired", validity)
		}
	}
	if err := g.deliver(ctx); err != nil {
		return err
	}
	g.Held("the first tokens have expired, were never revoked, and nobody noticed: %d messages delivered so far", g.messages)
	return g.show(ctx, "events", "-n", grantKey("").Namespace, "--for=mqtttokengrants/"+pressName)
}

// firstTokens are the tokens that were issued first for the press.
func (g *playground) firstTokens() []state.Token {
	var first []state.Token
	for _, t := range g.cloud.State().Tokens() {
		isOfPress := slices.ContainsFunc(t.Topics, func(topic string) bool {
			return topic == telemetry || strings.HasPrefix(topic, "factory/line-a/commands")
		})
		if isOfPress && (len(first) == 0 || t.Expires.Equal(first[0].Expires)) {
			first = append(first, t)
		}
	}
	return first
}

func (g *playground) deleteGrant(ctx context.Context) error {
	began := time.Now()
	if err := g.show(ctx, "delete", "mtg", pressName, "-n", grantKey("").Namespace, "--timeout=1m"); err != nil {
		return err
	}
	g.Held("kubectl delete returned after %s", time.Since(began).Round(100*time.Millisecond))
	if err := g.checkRevoked(); err != nil {
		return err
	}
	said, err := g.press.CutOff(ctx)
	if err != nil {
		return err
	}
	if said.Code != codeRevoked {
		return fmt.Errorf("the broker's notice has code %d, not %d", said.Code, codeRevoked)
	}
	g.Held("its client was cut off: notice %d, token revoked", said.Code)
	if again, err := device.Connect(g.press.mount.Folder); err == nil {
		again.Close()
		return errors.New("the client could connect again with its old files")
	}
	g.Held("its old files do not let it in again")
	if err := g.cluster.Get(ctx, grantKey(pressName), &corev1.Secret{}); !apierrors.IsNotFound(err) {
		return fmt.Errorf("the Secret is not gone: %w", err)
	}
	g.Held("its Secret is gone")
	return nil
}

// checkRevoked asks the simulator about the tokens that the client last had.
func (g *playground) checkRevoked() error {
	last, err := mqttcred.Load(g.press.mount.Folder)
	if err != nil {
		return err
	}
	for _, t := range last.Tokens {
		if _, validity := g.cloud.State().Lookup(state.IDOf(token.NewValue(t.Token))); validity != state.Revoked {
			return fmt.Errorf("token %s is %s at the service, not revoked", t.Type, validity)
		}
	}
	for _, t := range g.cloud.State().Tokens() {
		if _, validity := g.cloud.State().Lookup(t.ID); validity == state.Valid && t.Matches(telemetry) && t.Type == token.Publish {
			return fmt.Errorf("another token for %s is still valid", telemetry)
		}
	}
	g.Held("the service says that every token of the grant is revoked or expired")
	return nil
}

// lookBack checks what must not have happened meanwhile.
func (g *playground) lookBack(ctx context.Context) error {
	text, err := os.ReadFile(g.manager.Log)
	if err != nil {
		return fmt.Errorf("reading the manager's log: %w", err)
	}
	for line := range strings.Lines(string(text)) {
		if strings.Contains(strings.ToLower(line), "forbidden") {
			return fmt.Errorf("the manager lacks a right: %s", strings.TrimSpace(line))
		}
	}
	g.Held("the manager never lacked a right")
	logs, err := filepath.Glob(filepath.Join(g.folder, "*.log"))
	if err != nil {
		return err
	}
	for _, name := range logs {
		if err := g.checkLog(name); err != nil {
			return err
		}
	}
	g.Held("no log holds a token or the AccessKey's secret")
	return g.show(ctx, "get", "mtg", "-n", grantKey("").Namespace)
}

func (g *playground) checkLog(name string) error {
	text, err := os.ReadFile(name)
	if err != nil {
		return fmt.Errorf("reading a log: %w", err)
	}
	if slices.ContainsFunc(g.secrets, func(secret string) bool { return strings.Contains(string(text), secret) }) {
		return fmt.Errorf("%s holds a secret", name)
	}
	return nil
}

// show runs kubectl and shows what it prints, as it would look on the reader's own terminal.
func (g *playground) show(ctx context.Context, arguments ...string) error {
	text, err := g.cluster.Ask(ctx, arguments...)
	if err != nil {
		return err
	}
	g.Note("$ kubectl %s", strings.Join(arguments, " "))
	g.Block(text)
	return nil
}

// unready says what keeps an object from being Ready; nothing if it is.
func unready(conditions []metav1.Condition) string {
	switch ready := apimeta.FindStatusCondition(conditions, v1alpha1.ReadyCondition); {
	case ready == nil:
		return "nobody has looked at it"
	case ready.Status != metav1.ConditionTrue:
		return ready.Reason + ": " + ready.Message
	}
	return ""
}

func until(moment time.Time) time.Duration { return max(0, time.Until(moment)).Round(time.Second) }

func splitAddress(address string) (string, int64, error) {
	host, text, err := net.SplitHostPort(address)
	if err != nil {
		return "", 0, fmt.Errorf("reading an address: %w", err)
	}
	port, err := strconv.ParseInt(text, 10, 32)
	if err != nil {
		return "", 0, fmt.Errorf("reading a port: %w", err)
	}
	return host, port, nil
}
