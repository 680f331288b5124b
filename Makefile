# One target per question; `make` alone lists them. Needs Go, git, make, bash and a C compiler (for the race detector);
# everything else is pinned under hack/ and built on first use.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

PKG       ?= ./...
TEST_ARGS ?=
DEMO_ARGS ?=
CHAOS_MINUTES ?= 10
CHAOS_SEED    ?= 0
CHAOS_ARGS    ?=
FUZZTIME  ?= 30s
INSTALL   ?= config/default
VERSION   ?= dev
IMAGE     ?= manager
COLD      ?=
E2E_ARGS  ?=
UNINSTALL_ARGS ?=

TOOL     := hack/tools/tool.sh
COMMANDS := $(patsubst %/main.go,%,$(wildcard cmd/*/main.go))
MODULES  := . $(patsubst %/go.mod,%,$(wildcard hack/*/go.mod hack/tools/*/go.mod))
# What controller-gen writes; `make verify` holds exactly these against a fresh run.
GENERATED := api/v1alpha1/zz_generated.deepcopy.go config/crd/bases config/rbac/role.yaml
# What an image says of itself, as in the Dockerfile.
TITLE_manager         := mqtt-token-operator
DESCRIPTION_manager   := Issues, renews and revokes ApsaraMQ for MQTT tokens from Kubernetes objects
TITLE_simulator       := mqtt-token-simulator
DESCRIPTION_simulator := Local stand-in for the ApsaraMQ for MQTT token service and its broker
# One line for each package in a binary that is not ours or Go's, as hack/licences reads it.
BUILT_IN := '{{with .Module}}{{if not .Main}}{{.Path}}{{"\t"}}{{.Version}}{{"\t"}}{{.Dir}}{{"\t"}}{{$$.Dir}}{{end}}{{end}}'

##@ Use

.PHONY: help
help: ## List the targets.
	@awk 'BEGIN {FS = ":.*## "} /^##@/ {printf "\n%s\n", substr($$0, 5)} /^[a-z0-9-]+:.*## / {printf "  %-17s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: demo
demo: build ## Start a cluster, the simulator and the operator on this machine; DEMO_ARGS=--once runs the tour and ends.
	@assets=$$(hack/kube/assets.sh); bin/playground --assets "$$assets" --manager bin/manager $(DEMO_ARGS)

.PHONY: build
build: ## Build every command into bin/.
	@$(if $(COMMANDS),CGO_ENABLED=0 go build -trimpath -o bin/ $(COMMANDS:%=./%),echo "build: no commands yet")

.PHONY: build-installer
build-installer: manifests ## Write dist/install.yaml: CRDs, RBAC and the manager in one file; INSTALL=config/namespaced for some namespaces only.
	@mkdir -p dist
	@kustomize=$$($(TOOL) kustomize); "$$kustomize" build $(INSTALL) > dist/.install.yaml && mv dist/.install.yaml dist/install.yaml
	@echo "wrote dist/install.yaml"

.PHONY: uninstall
uninstall: ## Say what uninstalling from kubectl's cluster would take away; UNINSTALL_ARGS=--yes does it, in the right order.
	@hack/uninstall.sh $(UNINSTALL_ARGS)

##@ Check

.PHONY: test
test: ## Run all tests, fuzz seeds included, under the race detector against a real API server; PKG and TEST_ARGS narrow it.
	@assets=$$(hack/kube/assets.sh); KUBEBUILDER_ASSETS=$$assets go test -race -timeout 15m $(TEST_ARGS) $(PKG)

.PHONY: lint
lint: lint-code lint-api ## Run golangci-lint on everything and kube-api-linter on api/; `make -k lint` runs both in any case.

.PHONY: lint-code
lint-code:
	@linter=$$($(TOOL) golangci-lint); "$$linter" run; cd hack/licences; "$$linter" run --config ../../.golangci.yml; cd ../image; "$$linter" run --config ../../.golangci.yml

.PHONY: lint-api
lint-api:
	@$(if $(wildcard api/*/*.go),linter=$$($(TOOL) kube-api-linter); "$$linter" run --config .golangci-kal.yml ./api/...,echo "lint: no api/ yet")

.PHONY: kube-score
kube-score: ## Score every manifest that is shipped by kube-score; docs/install.md says what is ignored, and why.
	@hack/kube-score.sh

.PHONY: verify
verify: verify-format verify-modules verify-generated ## Fail if formatting, modules or generated files are not what the sources say.

.PHONY: verify-format
verify-format:
	@bad=$$(gofmt -l .); if [ -n "$$bad" ]; then echo "not formatted by gofmt:"; echo "$$bad"; exit 1; fi

.PHONY: verify-modules
verify-modules:
	@for module in $(MODULES); do echo "verify: go mod tidy -diff in $$module"; go -C "$$module" mod tidy -diff; done

.PHONY: verify-generated
verify-generated:
	@before=$$(mktemp -d); trap 'rm -rf "$$before"' EXIT; \
	for path in $(wildcard $(GENERATED)); do mkdir -p "$$before/$$(dirname "$$path")"; cp -R "$$path" "$$before/$$path"; done; \
	$(MAKE) generate manifests; \
	for path in $$(ls -d $(GENERATED) 2>/dev/null || true); do diff -ruN "$$before/$$path" "$$path" || { echo "verify: $$path was out of date; it is regenerated now, commit it"; exit 1; }; done
	@kustomize=$$($(TOOL) kustomize); for folder in config/default config/namespaced config/samples; do "$$kustomize" build "$$folder" >/dev/null; done

.PHONY: fuzz
fuzz: ## Run every fuzz target for FUZZTIME (default 30s) each.
	@hack/fuzz.sh $(FUZZTIME)

.PHONY: chaos
chaos: ## Break what can be broken for CHAOS_MINUTES (default 10) by the schedule of CHAOS_SEED, and check every promise meanwhile.
	@export CGO_ENABLED=0; go build -trimpath -tags killpoints -o bin/manager-killpoints ./cmd/manager && go build -trimpath -o bin/chaos ./test/chaos
	@assets=$$(hack/kube/assets.sh); bin/chaos --assets "$$assets" --manager bin/manager-killpoints --minutes $(CHAOS_MINUTES) --seed $(CHAOS_SEED) $(CHAOS_ARGS)

.PHONY: e2e
e2e: e2e-images ## Install the operator into a cluster with a node, and have pods use it: E2E_KUBECONFIG's, or one started here (Linux, as root, with runc).
	@go build -trimpath -o bin/e2e ./test/e2e
	@if [ -n "$${E2E_KUBECONFIG:-}" ]; then bin/e2e --assets "$$(hack/kube/assets.sh)" $(E2E_ARGS); exit; fi; \
	assets=$$(hack/kube/assets.sh kube-scheduler kubelet); runtime=$$(hack/containerd/assets.sh); \
	bin/e2e --assets "$$assets" --runtime "$$runtime" $(E2E_ARGS)

.PHONY: e2e-images
e2e-images:
	@mkdir -p bin/images; go -C hack/image build -trimpath -o ../../bin/image .
	@for package in ./cmd/manager ./cmd/simulator ./test/e2e/client ./examples/go ./examples/env ./test/node/pause; do name=$${package##*/}; \
	hack/release-build.sh bin/images/$$name "$$package"; bin/image --name "localhost/$$name:e2e" --output "bin/images/$$name.tar" "bin/images/$$name"; done

.PHONY: bench
bench: ## Run the benchmarks.
	@go test -run '^$$' -bench . -benchmem $(PKG)

##@ Supply chain

.PHONY: licences
licences: ## List the modules in the manager with their licences; fail on one that is not allowed.
	@said=$$(go -C hack/licences test . 2>&1) || { echo "$$said"; exit 1; }
	@CGO_ENABLED=0 GOOS=linux go list -deps -f $(BUILT_IN) ./cmd/manager | go -C hack/licences run .

.PHONY: image
image: ## Write the image of IMAGE (manager, simulator) into dist/ as an OCI archive, made without Docker. VERSION is its tag.
	@said=$$(go -C hack/image test . 2>&1) || { echo "$$said"; exit 1; }
	@mkdir -p dist; hack/release-build.sh dist/$(IMAGE) ./cmd/$(IMAGE)
	@go -C hack/image run . --output $(CURDIR)/dist/$(IMAGE).oci.tar --name $(TITLE_$(IMAGE)):$(VERSION) --ca-certificates \
	  --label org.opencontainers.image.title=$(TITLE_$(IMAGE)) \
	  --label "org.opencontainers.image.description=$(DESCRIPTION_$(IMAGE))" \
	  --label org.opencontainers.image.source=https://github.com/mqtt-token-operator/mqtt-token-operator \
	  --label org.opencontainers.image.version=$(VERSION) \
	  --label org.opencontainers.image.revision=$$(git rev-parse HEAD 2>/dev/null || echo unknown) \
	  $(CURDIR)/dist/$(IMAGE)

.PHONY: vulncheck
vulncheck: ## Look for known vulnerabilities in reach of PKG; GOVULNDB names another database. hack/vulncheck.sh tells by its code.
	@hack/vulncheck.sh $(PKG)

.PHONY: sbom
sbom: ## Write dist/manager as it is shipped, and dist/sbom.cdx.json: what it is made of (CycloneDX). VERSION is its version.
	@mkdir -p dist; hack/release-build.sh dist/manager ./cmd/manager
	@gomod=$$($(TOOL) cyclonedx-gomod); "$$gomod" bin -json -std -noserial -notimestamp -version $(VERSION) -output dist/.sbom.cdx.json dist/manager
	@mv dist/.sbom.cdx.json dist/sbom.cdx.json; echo "wrote dist/sbom.cdx.json"

.PHONY: reproducible
reproducible: ## Build the manager twice, in two places, and fail unless both are equal; COLD=1 compiles all of it again.
	@COLD=$(COLD) hack/reproducible.sh

##@ Generate

.PHONY: generate
generate: ## Write the DeepCopy methods of the API types.
	@$(if $(wildcard api/*/*.go),gen=$$($(TOOL) controller-gen); "$$gen" object paths=./api/...,echo "generate: no api/ yet")

.PHONY: manifests
manifests: ## Write the CRDs and the manager's roles into config/.
	@$(if $(wildcard api/*/*.go),gen=$$($(TOOL) controller-gen); "$$gen" crd paths=./api/... output:crd:artifacts:config=config/crd/bases,echo "manifests: no api/ yet")
	@$(if $(wildcard controllers/*.go),gen=$$($(TOOL) controller-gen); "$$gen" rbac:roleName=mqtt-token-operator-manager paths=./controllers/... paths=./cmd/manager/... output:rbac:artifacts:config=config/rbac,echo "manifests: no controllers/ yet")

.PHONY: kube-assets
kube-assets: ## Fetch or build etcd, kube-apiserver, kube-controller-manager and kubectl; prints their folder.
	@hack/kube/assets.sh

.PHONY: clean
clean: ## Remove what the targets above made; bin/k8s and bin/containerd, minutes of work, stay.
	@rm -rf dist bin/tools bin/envtest bin/chaos bin/e2e bin/image bin/images bin/manager-killpoints $(addprefix bin/,$(notdir $(COMMANDS)))
