#!/usr/bin/env bash
# Builds one command of the module in the current folder, and says on stderr how it goes. What is there already stays.
# The binary arrives under another name first: an interrupted run leaves nothing that looks finished, and two runs at
# once do not write into each other's file.
set -euo pipefail

binary=${1:?usage: build.sh <binary> <package> [ldflags]}
package=${2:?usage: build.sh <binary> <package> [ldflags]}
ldflags=${3:-}

[ -x "$binary" ] && exit 0
name=${binary##*/}
mkdir -p "${binary%/*}"
partial=${binary%/*}/.$name.$$
build=
tidy_up() {
  if [ -n "$build" ]; then kill "$build" 2>/dev/null || true; fi
  rm -f "$partial"
}
trap tidy_up EXIT
trap 'exit 130' INT TERM

echo "build: $name" >&2
start=$SECONDS
CGO_ENABLED=0 go build -trimpath -ldflags "-s -w $ldflags" -o "$partial" "$package" &
build=$!
while kill -0 "$build" 2>/dev/null; do
  sleep 1
  if [ $(((SECONDS - start) % 30)) -eq 29 ]; then echo "build:   $name: $((SECONDS - start))s" >&2; fi
done
wait "$build"
build=
mv "$partial" "$binary"
echo "build: $name took $((SECONDS - start))s" >&2
