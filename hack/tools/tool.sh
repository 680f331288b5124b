#!/usr/bin/env bash
# Prints the path of a pinned tool, built once per version into bin/tools; says on stderr what it does.
# Each tool has a module of its own beside this script, so that their dependencies never meet ours or each other's.
set -euo pipefail

name=${1:?usage: tool.sh <folder beside this script>}
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)

cd "$here/$name"
package=$(sed -n 's/^tool //p' go.mod)
version=$(go list -f '{{.Module.Version}}' "$package")
binary=$root/bin/tools/$name-$version
if [ ! -x "$binary" ]; then
  echo "tool: building $name $version (a minute or less on a cold cache)" >&2
  mkdir -p "${binary%/*}"
  partial=$binary.$$
  trap 'rm -f "$partial"' EXIT
  CGO_ENABLED=0 go build -trimpath -ldflags '-s -w' -o "$partial" "$package"
  mv "$partial" "$binary"
fi
echo "$binary"
