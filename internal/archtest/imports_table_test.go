package archtest_test

// rule says what the production code of one package may import. The standard library is allowed except for never.
type rule struct {
	why   string
	ours  []string // packages of this module, exactly
	third []string // import paths of others, with everything below
	never []string // of the standard library, with everything below
}

const (
	apimachinery      = "k8s.io/apimachinery"
	apiserverTypes    = "k8s.io/api"
	clientGo          = "k8s.io/client-go"
	clock             = "k8s.io/utils/clock"
	controllerRuntime = "sigs.k8s.io/controller-runtime"
	flags             = "github.com/spf13/pflag"
	logger            = "github.com/go-logr/logr"
	prometheus        = "github.com/prometheus/client_golang"
)

// impure is what a function of its arguments has no use for.
func impure() []string {
	return []string{"context", "crypto/rand", "log", "math/rand", "net", "os", "sync"}
}

// importTable is the one place that says who may import whom. Lower levels come first: nothing imports upwards.
func importTable() map[string]rule {
	return map[string]rule{
		// Level 0: these know nobody.
		"internal/topic": {why: "one definition of what a filter matches", never: impure()},
		"pkg/mqttcred": {
			why:   "public: owns the Secret's key names; must not drag Kubernetes into a client",
			third: []string{"github.com/fsnotify/fsnotify"},
		},
		"pkg/mqttcred/internal/turnstile": {why: "holds publishers up while a token is uploaded", never: []string{"net", "os"}},
		"pkg/mqttcred/pahov5": {
			why:   "public: keeps an MQTT 5 client connected with the files",
			ours:  []string{"pkg/mqttcred", "pkg/mqttcred/internal/turnstile"},
			third: []string{"github.com/eclipse/paho.golang"},
		},
		"pkg/mqttcred/paho": {
			why:   "public: keeps an MQTT 3.1.1 client connected with the files",
			ours:  []string{"pkg/mqttcred", "pkg/mqttcred/internal/turnstile"},
			third: []string{"github.com/eclipse/paho.mqtt.golang"},
		},
		"api/v1alpha1": {
			why:   "the API's types, importable by anybody at little cost",
			third: []string{apimachinery, "k8s.io/api/core/v1"},
			never: []string{"net", "os"},
		},
		"internal/metrics": {why: "every metric in one place", third: []string{prometheus}},
		"internal/killpoint": {
			why:   "where a test can have the manager die; nothing in a release build",
			never: []string{"net"},
		},

		// Level 1: our own words for the service.
		"internal/token": {
			why:   "the contract with any token service; no vendor, no wire",
			ours:  []string{"internal/topic"},
			never: []string{"encoding/json", "log", "net", "os"},
		},
		"internal/skew": {
			why:   "how far the service's clock is from ours; told the times, never asks for one",
			never: []string{"context", "crypto/rand", "log", "math/rand", "net", "os"},
		},
		"internal/token/tokenfake": {why: "scripted fake", ours: []string{"internal/token", "internal/topic"}, third: []string{clock}},
		"internal/token/tokentest": {
			why: "what every implementation must pass", ours: []string{"internal/token", "internal/topic"},
			third: []string{"github.com/google/go-cmp", clock},
		},

		// Level 2: one concern each.
		"internal/plan":    {why: "the decision; a pure function", ours: []string{"internal/token", "internal/topic"}, never: impure()},
		"internal/rollout": {why: "when consumers that cannot reload are restarted; a pure function", never: impure()},
		"internal/policy":  {why: "who may have what; a pure function", ours: []string{"internal/token", "internal/topic"}, never: impure()},
		"internal/credsecret": {
			why:   "renders and reads the token Secret",
			ours:  []string{"internal/token", "internal/topic", "pkg/mqttcred"},
			third: []string{"k8s.io/api/core/v1", "k8s.io/apimachinery/pkg/apis/meta/v1"},
			never: []string{"net/http", "os"},
		},
		"internal/ledger": {
			why:   "what must still be revoked, one page for each grant; pure",
			ours:  []string{"internal/token", "internal/topic"},
			third: []string{"k8s.io/api/core/v1", "k8s.io/apimachinery/pkg/apis/meta/v1"},
			never: impure(),
		},
		"internal/budget": {why: "one call budget per account; it is told the time", never: []string{"context", "log", "net", "os"}},
		"internal/aliyun": {
			why:   "the only package that knows the vendor",
			ours:  []string{"internal/token", "internal/topic", "internal/metrics"},
			third: []string{"github.com/aliyun", clock},
		},
		"internal/probe": {
			why:   "asks a broker, as a client would, whether it admits a token",
			ours:  []string{"internal/token"},
			third: []string{"github.com/mochi-mqtt/server/v2/packets"},
		},
		"internal/simulator/state": {
			why:   "the simulated service's memory",
			ours:  []string{"internal/token", "internal/topic"},
			third: []string{clock},
		},
		"internal/simulator/wire": {
			why:   "the simulated service's HTTP",
			ours:  []string{"internal/simulator/state", "internal/token", "internal/topic"},
			third: []string{clock},
		},
		"internal/simulator/broker": {
			why:   "the simulated broker",
			ours:  []string{"internal/simulator/state", "internal/token", "internal/topic"},
			third: []string{"github.com/mochi-mqtt/server/v2", "github.com/gorilla/websocket", clock},
		},
		"internal/simulator": {
			why:   "joins the three parts of the simulator",
			ours:  []string{"internal/simulator/state", "internal/simulator/wire", "internal/simulator/broker"},
			third: []string{clock},
		},

		// Level 3.
		"internal/desired": {
			why:   "API objects to plan and policy inputs; shared by controllers and CLI",
			ours:  []string{"api/v1alpha1", "internal/token", "internal/topic", "internal/policy", "internal/plan"},
			third: []string{apimachinery, "k8s.io/utils/ptr"},
			never: []string{"net", "os"},
		},

		// Level 4.
		"controllers": {
			why: "the only code that talks to the API server",
			ours: []string{
				"api/v1alpha1", "internal/desired", "internal/plan", "internal/policy", "internal/token", "internal/topic",
				"internal/credsecret", "internal/killpoint", "internal/ledger", "internal/metrics", "internal/budget", "internal/skew",
				"internal/probe", "internal/rollout",
			},
			third: []string{controllerRuntime, clientGo, apimachinery, apiserverTypes, "k8s.io/utils", logger, "golang.org/x/time/rate", "sigs.k8s.io/structured-merge-diff"},
			never: []string{"net/http"},
		},

		// Level 5: the commands. Only cmd/manager joins controllers and vendor.
		"cmd/manager": {
			why:   "wires the product",
			ours:  []string{"api/v1alpha1", "controllers", "internal/aliyun", "internal/budget", "internal/metrics", "internal/probe", "internal/token"},
			third: []string{controllerRuntime, clientGo, apimachinery, apiserverTypes, clock, flags, logger, "go.uber.org/zap", prometheus},
		},
		"cmd/simulator": {
			why: "the local token service and broker",
			ours: []string{
				"internal/simulator", "internal/simulator/state", "internal/simulator/wire", "internal/simulator/broker", "internal/token",
			},
			third: []string{flags, clock},
		},
		"cmd/playground": {
			why: "a cluster, the simulator and the operator in one command; starts the manager as its own process",
			ours: []string{
				"api/v1alpha1", "internal/simulator", "internal/simulator/state", "internal/simulator/wire", "internal/simulator/broker",
				"internal/token", "pkg/mqttcred", "test/cluster", "test/device", "test/story",
			},
			third: []string{controllerRuntime, clientGo, apimachinery, apiserverTypes, flags, logger},
		},

		// Test support: imported by tests and the playground only, because no rule above names more.
		"internal/archtest": {why: "this table"},
		"test/apiserver": {
			why:   "starts the real API server for suites",
			third: []string{controllerRuntime, clientGo, apimachinery, apiserverTypes},
		},
		"test/cluster": {
			why:   "a control plane and processes beside it, to be seen at work and disturbed",
			ours:  []string{"api/v1alpha1"},
			third: []string{controllerRuntime, clientGo, apimachinery, apiserverTypes, "sigs.k8s.io/yaml"},
		},
		"test/story": {why: "tells what a program does while it does it"},
		"test/node": {
			why:   "a whole cluster of one node, for pods",
			ours:  []string{"test/cluster"},
			third: []string{clientGo, apimachinery, apiserverTypes},
		},
		"test/node/pause": {why: "holds a pod's namespaces open"},
		"test/device": {
			why:   "an MQTT client that knows nothing but a mounted token Secret",
			ours:  []string{"pkg/mqttcred"},
			third: []string{"github.com/eclipse"},
		},
		"test/chaos": {
			why: "the manager's process under faults, and what must hold meanwhile; stands where a cluster's nodes would",
			ours: []string{
				"api/v1alpha1", "internal/credsecret", "internal/killpoint", "internal/ledger", "internal/simulator", "internal/simulator/broker",
				"internal/simulator/state", "internal/simulator/wire", "internal/token", "pkg/mqttcred", "test/cluster", "test/device",
			},
			third: []string{controllerRuntime, clientGo, apimachinery, apiserverTypes, flags, logger, "k8s.io/klog"},
		},
		"test/gen": {
			why:   "one builder per kind",
			ours:  []string{"api/v1alpha1", "internal/token", "internal/topic"},
			third: []string{apimachinery, apiserverTypes},
		},
		"test/suite": {
			why:  "prepares suites that run the manager as a process of its own",
			ours: []string{"test/apiserver", "test/cluster"}, third: []string{controllerRuntime, logger},
		},
		"test/deletion": {why: "deletes everything in every way, under the manager's own process and rights"},
		"test/gitops": {
			why:  "has GitOps tools judge objects: kstatus, Argo CD's Lua, Flux's CEL",
			ours: []string{"api/v1alpha1", "test/apiserver"},
			third: []string{
				apimachinery, "github.com/google/cel-go", "github.com/yuin/gopher-lua", "sigs.k8s.io/cli-utils", "sigs.k8s.io/yaml",
			},
		},
		"test/install":    {why: "installs, upgrades and uninstalls, in the right and in the wrong order, with what is shipped for that"},
		"test/tenancy":    {why: "tries as a tenant what must not succeed, against the manager's own process and rights"},
		"test/clienttest": {why: "what every client that lives on a mounted Secret must do", ours: []string{"pkg/mqttcred", "test/stage"}, third: []string{"github.com/google/go-cmp"}},
		"test/stage": {
			why: "a broker and a mounted Secret whose tokens it takes",
			ours: []string{
				"internal/credsecret", "internal/simulator", "internal/simulator/broker", "internal/simulator/state", "internal/token",
				"internal/topic", "test/device",
			},
			third: []string{"github.com/eclipse/paho.mqtt.golang"},
		},
		"test/examples": {why: "runs the examples as they are shipped"},
		"test/e2e": {
			why:   "the product in a cluster with pods",
			ours:  []string{"api/v1alpha1", "test/cluster", "test/node", "test/story"},
			third: []string{controllerRuntime, apimachinery, apiserverTypes, flags, logger},
		},
		"examples/env": {
			why: "shows what a program can do that only knows its environment", ours: []string{"pkg/mqttcred"},
			third: []string{"github.com/eclipse/paho.mqtt.golang"},
		},
		"examples/go": {why: "what a Go program does to stay connected", ours: []string{"pkg/mqttcred", "pkg/mqttcred/paho"}},
		"test/e2e/client": {
			why:   "the application of the end-to-end test",
			ours:  []string{"pkg/mqttcred", "pkg/mqttcred/paho"},
			third: []string{"github.com/eclipse/paho.mqtt.golang", flags},
		},
	}
}
