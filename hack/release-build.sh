#!/usr/bin/env bash
# Builds commands as they are shipped; the image is made by this, too. Usage: release-build.sh <output> <package>...
# The same sources and the same Go give the same bytes, whoever builds them and where.
set -euo pipefail

output=${1:?usage: release-build.sh <output> <package>...}
shift

# No paths, no commit, no C compiler, and none of the flags that somebody has set for all their builds.
export GOFLAGS='-trimpath -buildvcs=false' GOWORK=off CGO_ENABLED=0 GOOS=${GOOS:-linux}
go build -ldflags='-s -w' -o "$output" "$@"
