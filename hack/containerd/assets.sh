#!/usr/bin/env bash
# Prints the folder that holds containerd, its shim for runc and ctr, built once per version from the modules pinned beside
# this script; says on stderr what it does.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)

cd "$here"
module=github.com/containerd/containerd/v2
version=$(go list -m -f '{{.Version}}' "$module")
out=$root/bin/containerd/$version
for b in containerd containerd-shim-runc-v2 ctr; do
  "$root/hack/build.sh" "$out/$b" "$module/cmd/$b" "-X $module/version.Version=$version"
done
echo "$out"
