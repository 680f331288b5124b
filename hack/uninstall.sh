#!/usr/bin/env bash
# Removes the operator in the one order in which nothing gets stuck and no token stays alive: grants, the ledger, instances,
# the manager, the kinds. Needs kubectl alone, as cluster administrator. Without --yes it only says what is there.
#
# The manager is what takes finalizers off. Where none runs any more, this changes nothing: it prints what waits, which
# tokens stay alive until when, and the commands that let go of them.
#
# Codes: 0 done; 2 wrong arguments, or another manager than the named one; 3 tokens are still to be revoked: try again later;
# 4 something waits for a manager; 5 the API server did not answer: run it again.
set -euo pipefail

namespace=mqtt-token-system
patience=300 # seconds for each step: more than --revocation-deadline takes
confirmed=
leave_live=
running=

usage() {
  echo "usage: uninstall.sh [--yes] [--namespace NAME] [--wait SECONDS] [--leave-live]
  --yes         do it; without this nothing is changed
  --namespace   where the manager is installed (default $namespace)
  --wait        how long to wait for each step (default $patience s; more than the manager's --revocation-deadline)
  --leave-live  go on although the ledger holds tokens; they stay alive until they expire" >&2
  exit 2
}

while [ $# -gt 0 ]; do
  case $1 in
    --yes) confirmed=1 ;;
    --leave-live) leave_live=1 ;;
    --namespace) namespace=${2:-}; shift; [[ $namespace =~ ^[a-z0-9]([a-z0-9-]*[a-z0-9])?$ ]] || usage ;;
    --wait) patience=${2:-}; shift; [[ $patience =~ ^[0-9]+$ ]] || usage ;;
    *) usage ;;
  esac
  shift
done

say() { echo "uninstall: $*"; }

# What cannot be listed must not pass for gone: whoever lists ends with 5, and so does whoever asked for the list.
trap 'if [ $? = 5 ]; then say "the API server did not answer. Run this again; it goes on where it was."; fi' EXIT

count() { if [ -z "$1" ]; then echo 0; else wc -l <<< "$1" | tr -d ' '; fi; }

# Each of the next five prints a line for each object: namespace, name, "-" and the place of our finalizer in its list, and
# a word about it. What tenants wrote comes last and quoted, so that it cannot pass for a line. Tokens are in the data only.
place() { echo "{{range \$i, \$f := .metadata.finalizers}}{{if eq \$f \"$1\"}}{{\$i}}{{end}}{{end}}"; }
lines() { # lines <finalizer> <rest of the template> <arguments of get>...
  local template
  template="{{range .items}}{{.metadata.namespace}} {{.metadata.name}} -$(place "$1") $2{{\"\\n\"}}{{end}}"
  shift 2
  kubectl get "$@" -o go-template="$template" || exit 5
}
annotation() { echo "{{with .metadata.annotations}}{{printf \"%q\" (index . \"$1\")}}{{end}}"; }
defined() {
  local found
  found=$(kubectl get crd "$1" --ignore-not-found -o name) || exit 5
  [ -n "$found" ]
}

grants() {
  if ! defined "$grant_kind"; then return; fi
  lines mqtt.tokengrant.dev/revoke '{{.spec.deletionPolicy}}' "$grant_kind" -A
}
instances() {
  if ! defined "$instance_kind"; then return; fi
  lines mqtt.tokengrant.dev/in-use '' "$instance_kind" -A
}
secrets() {
  local owner='{{range .metadata.ownerReferences}}{{if eq .kind "MqttTokenGrant"}}owned{{end}}{{end}}'
  lines mqtt.tokengrant.dev/revoke "-$owner $(annotation mqtt.tokengrant.dev/facts)" secrets -A --field-selector type=mqtt.tokengrant.dev/token
}
pages() { lines - "- $(annotation mqtt.tokengrant.dev/ledger)" secrets -n "$namespace" --field-selector type=mqtt.tokengrant.dev/ledger; }
bindings() { lines mqtt.tokengrant.dev/revoke '' rolebindings -A --field-selector "metadata.name=$manager,metadata.namespace!=$namespace"; }

manager=mqtt-token-operator-manager
grant_kind=mqtttokengrants.mqtt.tokengrant.dev
instance_kind=mqttinstances.mqtt.tokengrant.dev

held() { awk '/^[^ ]+ [^ ]+ -[0-9]/'; }
waiting() { { grants; secrets; instances; bindings; } | held; }

# ends prints when the tokens in the facts of its input end that have not ended yet, one a line.
ends() {
  local now
  now=$(date -u +%Y-%m-%dT%H:%M:%SZ)
  { grep -oE '\\"expires\\":\\"[0-9TZ:.+-]+' || true; } | sed 's/.*"//' | while read -r end; do
    if [[ $end > $now ]]; then echo "$end"; fi
  done | sort
}

# live says of each line with facts how many tokens are alive, and until when.
live() {
  local space name _ facts all none=1
  while read -r space name _ _ facts; do
    all=$(ends <<< "$facts")
    if [ -n "$all" ]; then
      echo "  Secret $space/$name: $(count "$all") alive, until $(uniq <<< "$all" | paste -sd ' ' -)"
      none=
    fi
  done
  if [ -n "$none" ]; then echo "  none"; fi
}

# runs tells whether a manager renews the lease. One that was killed is replaced within its 15 s; one that ended in order
# has let go of it, and is replaced at once.
runs() {
  local lease=(kubectl get lease mqtt-token-operator -n "$namespace" --ignore-not-found -o 'jsonpath={.spec.holderIdentity} {.spec.renewTime}')
  local before now second
  before=$("${lease[@]}") || exit 5
  for second in {1..20}; do
    sleep 1
    now=$("${lease[@]}") || exit 5
    if [[ $now == '' || $now == ' '* ]]; then
      if [ "$second" -ge 6 ]; then return 1; fi
    elif [ "$now" != "$before" ]; then
      return 0
    fi
  done
  return 1
}

# settle waits until a list is empty, and was had. settle <what> <list>...
settle() {
  local what=$1 left before='' end=$((SECONDS + patience))
  shift
  until left=$("$@") && [ -z "$left" ]; do
    if [ "$SECONDS" -ge "$end" ]; then return 1; fi
    if [ -n "$left" ] && [ "$left" != "$before" ]; then say "waiting for $(count "$left") $what"; fi
    before=$left
    sleep 1
  done
}

survey() {
  local of_grants of_secrets of_pages of_instances abandoned
  of_grants=$(grants)
  of_secrets=$(secrets)
  of_pages=$(pages)
  of_instances=$(instances)
  say "$(count "$of_grants") grants, $(count "$of_secrets") token Secrets, $(count "$of_pages") pages in the ledger, $(count "$of_instances") instances"
  abandoned=$(awk '$4 == "Abandon" {print "  " $1 "/" $2}' <<< "$of_grants")
  if [ -n "$abandoned" ]; then
    say "these grants have deletionPolicy Abandon: what is alive in their Secrets is left to expire"
    echo "$abandoned"
  fi
  say "tokens that are alive now:"
  live <<< "$of_secrets"$'\n'"$of_pages"
}

release() { # release <kind>: a command for each line that holds our finalizer
  local space name at _
  while read -r space name at _; do
    at=/metadata/finalizers/${at#-}
    echo "  kubectl -n $space patch $1 $name --type json -p '[{\"op\":\"test\",\"path\":\"$at\",\"value\":\"$2\"},{\"op\":\"remove\",\"path\":\"$at\"}]'"
  done < <(held)
}

way_out() {
  say "$1"
  say "The way out that leaves nothing alive: install the same manager again, and run this again:"
  echo "  kubectl apply --server-side -f dist/install.yaml"
  say "Otherwise these tokens stay alive until they expire, and nobody revokes them:"
  { secrets; pages; } | live
  say "If that may be, let go by these commands, and run this again:"
  grants | release "$grant_kind" mqtt.tokengrant.dev/revoke
  secrets | release secret mqtt.tokengrant.dev/revoke
  instances | release "$instance_kind" mqtt.tokengrant.dev/in-use
  bindings | release rolebinding mqtt.tokengrant.dev/revoke
  exit 4
}

drain() {
  if [ -z "$running" ] || settle 'pages in the ledger' pages; then return; fi
  leave "the service has not confirmed all revocations within $patience s"
}

# leave ends it for what the ledger holds, unless that may stay alive.
leave() {
  local left
  left=$(pages)
  if [ -z "$left" ]; then return; fi
  say "$1; these tokens stay alive until they are revoked or expire:"
  live <<< "$left"
  if [ -n "$leave_live" ]; then return; fi
  say "Run this again when the service answers, or with --leave-live to forget them."
  exit 3
}

delete_served() {
  if defined "$grant_kind"; then kubectl delete "$grant_kind" --all -A --wait=false; fi
  settle 'grants and token Secrets' served || way_out "These have not gone within $patience s; what the manager says about it is in its log."
  drain
  if defined "$instance_kind"; then kubectl delete "$instance_kind" --all -A --wait=false; fi
  settle instances instances || way_out "These have not gone within $patience s; what the manager says about it is in its log."
  bindings | while read -r space _; do kubectl delete rolebinding -n "$space" "$manager" --wait=false < /dev/null; done
  settle RoleBindings bindings || way_out "These have not gone within $patience s; what the manager says about it is in its log."
}
# served is what must be gone before the kinds go: without them nobody collects what belongs to a grant.
served() { grants; secrets | awk '/^[^ ]+ [^ ]+ -([0-9]+ -|[0-9]* -owned)/'; }

# delete_installed removes what dist/install.yaml has put there, the manager first.
delete_installed() {
  local gone=(--ignore-not-found "--timeout=${patience}s")
  kubectl delete deployment "$manager" -n "$namespace" "${gone[@]}"
  kubectl delete crd "$grant_kind" "$instance_kind" "${gone[@]}"
  kubectl delete clusterrolebinding "$manager" "$manager-cluster" mqtt-token-operator-metrics-auth mqtt-token-operator-metrics-reader mqtt-token-operator-rollout-restart "${gone[@]}"
  kubectl delete clusterrole "$manager" "$manager-cluster" mqtt-token-operator-metrics-auth mqtt-token-operator-metrics-reader \
    mqtt-token-operator-rollout-restart mqtt-token-operator-edit mqtt-token-operator-view mqtt-token-operator-instance-admin "${gone[@]}"
  kubectl delete priorityclass mqtt-token-operator "${gone[@]}"
  kubectl delete namespace "$namespace" "${gone[@]}"
}

# others lists managers that are installed elsewhere, or under another name.
others() {
  kubectl get deployment -A -l app.kubernetes.io/name=mqtt-token-operator,app.kubernetes.io/component=manager \
    -o go-template='{{range .items}}{{.metadata.namespace}}/{{.metadata.name}}{{"\n"}}{{end}}' | awk -v own="$namespace/$manager" '$0 != own' || exit 5
}

elsewhere=$(others)
if [ -n "$elsewhere" ]; then
  say "a manager is installed as $(paste -sd ' ' - <<< "$elsewhere"). This is for $namespace/$manager, and would take away the kinds that others serve, too."
  say "Nothing was changed. Name the namespace of the only manager with --namespace, or remove the others first."
  exit 2
fi
survey
if runs; then
  running=1
  say "a manager runs"
  if [ -z "$confirmed" ]; then say "nothing was changed; --yes removes all of this, and namespace $namespace with all that is in it"; exit; fi
else
  left=$(waiting)
  if [ -n "$left" ]; then way_out "No manager runs, and some objects wait for one. Nothing was changed."; fi
  say "no manager runs, and nothing waits for one"
  if [ -z "$confirmed" ]; then say "nothing was changed; --yes removes the rest, and namespace $namespace with all that is in it"; exit; fi
  leave "no manager runs to revoke what is in the ledger"
fi
delete_served
delete_installed
say "done"
