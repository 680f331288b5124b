#!/usr/bin/env bash
# Scans packages (all of them by default) for known vulnerabilities in code that they can reach.
#
#   0  none is known
#   1  the scan itself failed
#   3  there are some; they are listed
#   4  the database could not be read, so nothing is known either way
#
# GOVULNDB names another database than https://vuln.go.dev, such as a mirror or a file:// URL.
# make turns every failure into 2: call this script where the difference matters.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
database=${GOVULNDB:-https://vuln.go.dev}
if [ $# = 0 ]; then set -- ./...; fi

govulncheck=$(hack/tools/tool.sh govulncheck)
errors=$(mktemp)
trap 'rm -f "$errors"' EXIT

code=0
"$govulncheck" -db "$database" "$@" 2>"$errors" || code=$?
cat "$errors" >&2
case $code in
0 | 3) exit "$code" ;;
esac
# The scanner has one code for all its failures; it says this much of the database, whether that is a server or a folder.
if grep -qE '^creating client:|fetching vulnerabilities:' "$errors"; then
  echo "vulncheck: the database $database could not be read; nothing is known about vulnerabilities" >&2
  exit 4
fi
exit 1
