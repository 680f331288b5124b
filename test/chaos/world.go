package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/mqtt-token-operator/mqtt-token-operator/api/v1alpha1"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/killpoint"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/simulator"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/simulator/broker"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/simulator/state"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/token"
	"github.com/mqtt-token-operator/mqtt-token-operator/test/cluster"
)

const (
	// revocationDeadline is the flag of that name: how long a deletion waits for the service.
	revocationDeadline = 20 * time.Second
	// callWithin is how long we wait for an API server that may be frozen.
	callWithin = 4 * time.Second
	// persist is how long a change of ours is tried again while the API server is away.
	persist = 40 * time.Second
	// setUpWithin is how long the fleet may take to be ready before the faults begin.
	setUpWithin = 2 * time.Minute
)

// world is everything that runs, and what is known of it.
type world struct {
	*tally
	o        options
	folder   string
	cluster  *cluster.Cluster
	api      client.Client // gives up soon
	watcher  client.WithWatch
	cloud    *simulator.Simulator
	managers *managers
	settings figures

	mu       sync.Mutex
	book     *book
	repeats  *repeats
	endings  endings
	dooms    []*doom
	standing map[types.NamespacedName]*standing
	damages  map[types.NamespacedName]*damages
	texts    leaks
	up       time.Duration
	extras   int
	// troubled says why the service or the API server is not in order now.
	troubled map[string]bool
	// errands are deletions that a lane does not wait for.
	errands sync.WaitGroup
}

// figures are what the table tells beside the invariants.
type figures struct {
	mu                       sync.Mutex
	faults                   map[kind]int
	deaths                   int
	reached                  map[killpoint.Point]int
	mostLost                 int
	lostByTerm               int
	leaderless, takeover     time.Duration
	takeovers                int
	worstLate                time.Duration
	worstLateGrant           string
	clientGap                time.Duration
	reconnects, publications int
	versions                 int
}

func (f *figures) update(change func(*figures)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change(f)
}

func newWorld(o options, folder string, out io.Writer) *world {
	return &world{
		tally: newTally(out), o: o, folder: folder, book: newBook(), repeats: newRepeats(), endings: endings{open: map[string]*ending{}},
		standing: map[types.NamespacedName]*standing{}, damages: map[types.NamespacedName]*damages{}, troubled: map[string]bool{}, texts: newLeaks(),
		settings: figures{faults: map[kind]int{}, reached: map[killpoint.Point]int{}},
	}
}

// start brings everything up and waits until the fleet has its tokens.
func (w *world) start(ctx context.Context) error {
	for _, step := range []func(context.Context) error{w.startCluster, w.startCloud, w.startManagers, w.createFleet, w.awaitFleet} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (w *world) startCluster(ctx context.Context) error {
	var err error
	w.cluster, err = cluster.Start(ctx, cluster.Options{Assets: w.o.assets, Folder: w.folder, OnEnd: func(err error) { w.say("%v", err) }})
	if err != nil {
		return err
	}
	config := rest.CopyConfig(w.cluster.Config)
	config.QPS, config.Burst = 200, 400
	if w.watcher, err = client.NewWithWatch(config, client.Options{Scheme: w.cluster.Scheme()}); err != nil {
		return fmt.Errorf("making a client: %w", err)
	}
	impatient := rest.CopyConfig(config)
	impatient.Timeout = callWithin
	if w.api, err = client.New(impatient, client.Options{Scheme: w.cluster.Scheme()}); err != nil {
		return fmt.Errorf("making a client: %w", err)
	}
	w.say("etcd, kube-apiserver and kube-controller-manager %s run", w.cluster.Version)
	return nil
}

func (w *world) startCloud(ctx context.Context) error {
	var instances []state.Instance
	for _, name := range instanceNames() {
		instances = append(instances, state.Instance{ID: instanceID(name), Region: region, Account: account})
	}
	var err error
	w.cloud, err = simulator.Start(context.WithoutCancel(ctx), simulator.Options{
		Accounts:  []state.Account{{ID: account, Keys: []state.Key{{ID: keyID, Secret: token.NewValue(keySecret)}}}},
		Instances: instances, Quotas: state.DefaultQuotas(),
	})
	if err != nil {
		return fmt.Errorf("starting the simulator: %w", err)
	}
	w.texts.add(keySecret)
	return nil
}

func (w *world) startManagers(ctx context.Context) error {
	kubeconfig, _, err := w.cluster.Install(ctx, w.o.installation())
	if err != nil {
		return err
	}
	w.managers = &managers{
		onDeath: w.managerDied,
		start: func(name, armed string) (*cluster.Process, error) {
			return cluster.StartProcess(context.WithoutCancel(ctx), cluster.Command{
				Name: name, Path: w.o.manager, LogFolder: w.folder,
				Environment: []string{"KUBECONFIG=" + kubeconfig, armVariable + "=" + armed},
				Arguments: []string{
					"--leader-elect", "--metrics-bind-address=0", "--health-probe-bind-address=0", "--verify-interval=0",
					"--allowed-endpoints=" + w.cloud.APIAddress(), "--revocation-deadline=" + revocationDeadline.String(),
				},
			}, func(error) {})
		},
	}
	if err := w.managers.run(ctx); err != nil {
		return err
	}
	w.say("%d managers run as service account %s", replicas, cluster.ManagerAccount())
	return nil
}

func (w *world) createFleet(ctx context.Context) error {
	for _, name := range append(namespaces(), platform) {
		if err := w.create(ctx, newNamespace(name)); err != nil {
			return err
		}
	}
	if err := w.create(ctx, newCredential()); err != nil {
		return err
	}
	for _, name := range instanceNames() {
		if err := w.createInstance(ctx, name); err != nil {
			return err
		}
	}
	for n, key := range grantKeys() {
		if err := w.createGrant(ctx, key, n); err != nil {
			return err
		}
	}
	return nil
}

func (w *world) createInstance(ctx context.Context, name string) error {
	made := v1alpha1.Broker{CABundle: string(w.cloud.CAPEM())}
	for kind, port := range map[broker.Kind]*int32{
		broker.TLS: &made.Ports.TLS, broker.WebSocketTLS: &made.Ports.WSS, broker.TCP: &made.Ports.TCP,
	} {
		host, text, err := net.SplitHostPort(w.cloud.BrokerAddress(kind))
		if err != nil {
			return fmt.Errorf("reading an address: %w", err)
		}
		number, err := strconv.ParseInt(text, 10, 32)
		if err != nil {
			return fmt.Errorf("reading a port: %w", err)
		}
		made.Host, *port = host, int32(number)
	}
	return w.create(ctx, newInstance(name, w.cloud.APIAddress(), string(w.cloud.CAPEM()), made))
}

// createGrant creates a grant and expects it to get tokens soon.
func (w *world) createGrant(ctx context.Context, key types.NamespacedName, n int) error {
	w.mu.Lock()
	w.standing[key] = &standing{excused: true, since: w.up}
	w.mu.Unlock()
	return w.create(ctx, newGrant(key, n))
}

// create creates an object; that it exists already is as good.
func (w *world) create(ctx context.Context, object client.Object) error {
	return w.insist(ctx, "creating "+object.GetName(), func() error {
		object.SetResourceVersion("")
		return client.IgnoreAlreadyExists(w.api.Create(ctx, object))
	})
}

// insist tries a change again until it is done or impossible: the API server may be away, and others write too.
func (w *world) insist(ctx context.Context, what string, change func() error) error {
	err := cluster.Eventually(ctx, persist, func() (string, error) {
		switch err := change(); {
		case err == nil:
			return "", nil
		case apierrors.IsInvalid(err) || apierrors.IsNotFound(err):
			return "", err
		default:
			return err.Error(), nil
		}
	})
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

// awaitFleet waits until all that exists is Ready.
func (w *world) awaitFleet(ctx context.Context) error {
	began := time.Now()
	err := cluster.Eventually(ctx, setUpWithin, func() (string, error) {
		var list v1alpha1.MqttTokenGrantList
		if err := w.api.List(ctx, &list); err != nil {
			return err.Error(), nil //nolint:nilerr // it is tried again
		}
		missing, example := len(grantKeys()), "it does not exist"
		for _, grant := range list.Items {
			if apimeta.IsStatusConditionTrue(grant.Status.Conditions, v1alpha1.ReadyCondition) {
				missing--
			} else if c := apimeta.FindStatusCondition(grant.Status.Conditions, v1alpha1.ReadyCondition); c != nil {
				example = fmt.Sprintf("%s/%s: %s %s", grant.Namespace, grant.Name, c.Reason, c.Message)
			}
		}
		if missing == 0 {
			return "", nil
		}
		return fmt.Sprintf("%d grants are not Ready; %s", missing, example), nil
	})
	if err != nil {
		return fmt.Errorf("waiting for the fleet: %w", err)
	}
	w.say("%d grants of %d instances are Ready after %s", len(grantKeys()), len(instanceNames()), time.Since(began).Round(time.Second))
	return nil
}

// trouble notes that something we broke is broken, or no longer.
func (w *world) trouble(what string, is bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if is {
		w.troubled[what] = true
	} else {
		delete(w.troubled, what)
	}
}

// managerDied counts which tokens went with a manager.
func (w *world) managerDied(m *manager, at time.Time) {
	led := m.hasLease()
	if led {
		w.interrupted(at)
	}
	how := m.how
	if how == "" {
		how = "ended by itself"
		if m.armed != "" {
			how = "killed at " + m.armed
		}
	}
	time.Sleep(restartAfter) //nolint:forbidigo // what it wrote last is still on its way to our watch
	alive := w.alive()
	w.mu.Lock()
	w.book.notice(at, nil)
	lost := 0
	if led {
		lost = w.book.died(m.name+" "+how, at, alive)
	}
	w.mu.Unlock()
	w.settings.update(func(f *figures) {
		if led {
			f.deaths++
			f.mostLost = max(f.mostLost, lost)
			if how == terminated {
				f.lostByTerm += lost
			}
		}
	})
	role := "standby"
	if led {
		role = "leader"
	}
	w.say("  %s (%s) %s; %d token(s) may have gone with it", m.name, role, how, lost)
}

// interrupted notes that a leader may not have written down what it did last.
func (w *world) interrupted(at time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.repeats.interrupted(at)
}

// revocations tells how often each token was revoked, if it was.
func (w *world) revocations() map[string]int {
	times := map[string]int{}
	for _, t := range w.cloud.State().Tokens() {
		if t.Revocations > 0 {
			times[t.ID] = t.Revocations
		}
	}
	return times
}

// alive lists the ids of the tokens that the service takes now.
func (w *world) alive() []string {
	var ids []string
	for _, t := range w.cloud.State().Tokens() {
		if _, validity := w.cloud.State().Lookup(t.ID); validity == state.Valid {
			ids = append(ids, t.ID)
		}
	}
	return ids
}

// aliveOf lists the living tokens of a grant: its topics are nobody else's.
func (w *world) aliveOf(key types.NamespacedName) map[string]bool {
	ids := map[string]bool{}
	for _, t := range w.cloud.State().Tokens() {
		if _, validity := w.cloud.State().Lookup(t.ID); validity == state.Valid && strings.HasPrefix(t.Topics[0], prefix(key)) {
			ids[t.ID] = true
		}
	}
	return ids
}

// close stops everything. Credentials never stay; logs do after a failure.
func (w *world) close(failed bool) error {
	var faults []error
	if w.managers != nil {
		w.managers.close()
	}
	if w.cluster != nil {
		faults = append(faults, w.cluster.ThawStore(), w.cluster.ThawAPIServer(), w.cluster.Stop())
	}
	if w.cloud != nil {
		faults = append(faults, w.cloud.Close())
	}
	if !failed {
		return errors.Join(append(faults, os.RemoveAll(w.folder))...)
	}
	for _, pattern := range []string{"*kubeconfig", "client-*"} {
		names, err := filepath.Glob(filepath.Join(w.folder, pattern))
		faults = append(faults, err)
		for _, name := range names {
			faults = append(faults, os.RemoveAll(name))
		}
	}
	return errors.Join(faults...)
}
