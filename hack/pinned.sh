# For scripts that build pinned programs: `source` it.
#
# build_pinned <folder> <name> <package> <ldflags> builds one program of the module in the working folder into <folder>,
# and says on stderr how it gets on. The program arrives under another name first: an interrupted run leaves nothing that
# looks finished, and two runs at once do not write into each other's file.

# complete <folder> <name>... tells whether a folder holds all of these programs.
complete() {
  local folder=$1 name
  shift
  for name in "$@"; do [ -x "$folder/$name" ] || return 1; done
}

pinned_build= pinned_partial=
pinned_tidy_up() {
  if [ -n "$pinned_build" ]; then kill "$pinned_build" 2>/dev/null || true; fi
  if [ -n "$pinned_partial" ]; then rm -f "$pinned_partial"; fi
}
trap pinned_tidy_up EXIT
trap 'exit 130' INT TERM

build_pinned() {
  local folder=$1 name=$2 package=$3 ldflags=$4 start=$SECONDS
  if [ -x "$folder/$name" ]; then return; fi
  say "building $name"
  mkdir -p "$folder"
  pinned_partial=$folder/.partial.$$
  CGO_ENABLED=0 go build -trimpath -ldflags "-s -w $ldflags" -o "$pinned_partial" "$package" &
  pinned_build=$!
  while kill -0 "$pinned_build" 2>/dev/null; do
    sleep 1
    if [ $(((SECONDS - start) % 30)) -eq 29 ]; then say "  $name: $((SECONDS - start))s"; fi
  done
  wait "$pinned_build"
  pinned_build=
  mv "$pinned_partial" "$folder/$name"
  say "built $name in $((SECONDS - start))s"
}
