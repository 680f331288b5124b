#!/usr/bin/env bash
# Prints the folder that holds etcd, kube-apiserver, kube-controller-manager and kubectl; says on stderr what it does.
#
#   1. KUBEBUILDER_ASSETS, if it is set and complete;
#   2. bin/k8s/<version>, if an earlier run filled it;
#   3. a prebuilt set from setup-envtest, if one arrives within seconds;
#   4. whatever is still missing is built from the modules pinned beside this script.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
need=(etcd kube-apiserver kube-controller-manager kubectl)
prebuilt_wait=${PREBUILT_WAIT:-10} # seconds

say() { echo "kube-assets: $*" >&2; }
complete() { local b; for b in "${need[@]}"; do [ -x "$1/$b" ] || return 1; done; }

if [ -n "${KUBEBUILDER_ASSETS:-}" ] && complete "$KUBEBUILDER_ASSETS"; then
  echo "$KUBEBUILDER_ASSETS"
  exit 0
fi

cd "$here"
version=$(go list -m -f '{{.Version}}' k8s.io/kubernetes)
out=$root/bin/k8s/$version
if complete "$out"; then
  echo "$out"
  exit 0
fi
mkdir -p "$out"

# Every binary arrives under another name first: an interrupted run leaves nothing that looks finished, and two runs
# at once do not write into each other's file.
build=
partial=$out/.partial.$$
tidy_up() {
  if [ -n "$build" ]; then kill "$build" 2>/dev/null || true; fi
  rm -f "$partial"
}
trap tidy_up EXIT
trap 'exit 130' INT TERM

# An incomplete KUBEBUILDER_ASSETS (the usual one lacks kube-controller-manager) still saves most of the work.
take_from() {
  local b
  for b in "${need[@]}"; do
    if [ -x "$1/$b" ] && [ ! -x "$out/$b" ]; then
      cp "$1/$b" "$partial"
      mv "$partial" "$out/$b"
      say "took $b from $1"
    fi
  done
}

bounded() { if command -v timeout >/dev/null; then timeout "$prebuilt_wait" "$@"; else "$@"; fi; }

if [ -n "${KUBEBUILDER_ASSETS:-}" ]; then
  take_from "$KUBEBUILDER_ASSETS"
else
  say "looking for a prebuilt $version (at most ${prebuilt_wait}s)"
  if setup=$("$root/hack/tools/tool.sh" setup-envtest) && prebuilt=$(bounded "$setup" use "${version#v}" --bin-dir "$root/bin/envtest" -p path 2>/dev/null); then
    take_from "$prebuilt"
  else
    say "none in reach; building from source (minutes on a cold cache, seconds on a warm one)"
  fi
fi

package() {
  case $1 in
    etcd) echo go.etcd.io/etcd/server/v3 ;;
    *) echo "k8s.io/kubernetes/cmd/$1" ;;
  esac
}

v=k8s.io/component-base/version
minor=${version#v1.}
ldflags="-s -w -X $v.gitVersion=$version -X $v.gitMajor=1 -X $v.gitMinor=${minor%%.*} -X $v.gitTreeState=clean"
for b in "${need[@]}"; do
  [ -x "$out/$b" ] && continue
  say "building $b"
  start=$SECONDS
  CGO_ENABLED=0 go build -trimpath -ldflags "$ldflags" -o "$partial" "$(package "$b")" &
  build=$!
  while kill -0 "$build" 2>/dev/null; do
    sleep 1
    if [ $(((SECONDS - start) % 30)) -eq 29 ]; then say "  $b: $((SECONDS - start))s"; fi
  done
  wait "$build"
  build=
  mv "$partial" "$out/$b"
  say "built $b in $((SECONDS - start))s"
done
echo "$out"
