#!/usr/bin/env bash
# Prints the folder that holds etcd, kube-apiserver, kube-controller-manager and kubectl, and the programs that are named
# as arguments (kube-scheduler and kubelet make a node); says on stderr what it does.
#
#   1. KUBEBUILDER_ASSETS, if it is set and complete;
#   2. bin/k8s/<version>, if an earlier run filled it;
#   3. a prebuilt set from setup-envtest, if one arrives within seconds;
#   4. whatever is still missing is built from the modules pinned beside this script.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
plane=(etcd kube-apiserver kube-controller-manager kubectl)
need=("${plane[@]}" "$@")
prebuilt_wait=${PREBUILT_WAIT:-10} # seconds

say() { echo "kube-assets: $*" >&2; }
source "$here/../pinned.sh"

if [ -n "${KUBEBUILDER_ASSETS:-}" ] && complete "$KUBEBUILDER_ASSETS" "${need[@]}"; then
  echo "$KUBEBUILDER_ASSETS"
  exit 0
fi

cd "$here"
version=$(go list -m -f '{{.Version}}' k8s.io/kubernetes)
out=$root/bin/k8s/$version
if complete "$out" "${need[@]}"; then
  echo "$out"
  exit 0
fi
mkdir -p "$out"

# An incomplete KUBEBUILDER_ASSETS (the usual one lacks kube-controller-manager) still saves most of the work.
take_from() {
  local b
  for b in "${need[@]}"; do
    if [ -x "$1/$b" ] && [ ! -x "$out/$b" ]; then
      pinned_partial=$out/.partial.$$
      cp "$1/$b" "$pinned_partial"
      mv "$pinned_partial" "$out/$b"
      say "took $b from $1"
    fi
  done
}

bounded() { if command -v timeout >/dev/null; then timeout "$prebuilt_wait" "$@"; else "$@"; fi; }

if [ -n "${KUBEBUILDER_ASSETS:-}" ]; then
  take_from "$KUBEBUILDER_ASSETS"
elif ! complete "$out" "${plane[@]}"; then # of which some come prebuilt
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
for b in "${need[@]}"; do
  build_pinned "$out" "$b" "$(package "$b")" "-X $v.gitVersion=$version -X $v.gitMajor=1 -X $v.gitMinor=${minor%%.*} -X $v.gitTreeState=clean"
done
echo "$out"
