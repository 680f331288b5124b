#!/usr/bin/env bash
# Prints the folder that holds containerd, containerd-shim-runc-v2 and ctr: bin/containerd/<version>, built from the module
# pinned beside this script if no earlier run did. Says on stderr what it does.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
module=github.com/containerd/containerd/v2

say() { echo "containerd-assets: $*" >&2; }
source "$here/../pinned.sh"

cd "$here"
version=$(go list -m -f '{{.Version}}' "$module")
out=$root/bin/containerd/$version
for name in containerd containerd-shim-runc-v2 ctr; do
  build_pinned "$out" "$name" "$module/cmd/$name" "-X $module/version.Version=$version"
done
echo "$out"
