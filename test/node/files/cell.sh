# The first process of the cell. When it ends, the kernel ends all that runs in it and takes every mount with it.
# The environment names what it needs: FOLDER, CONTAINERD, KUBELET, KUBECONFIG and NODE.
set -eu

# Nothing that is mounted from here on is seen outside; inside, containers see what is mounted after their start.
mount --make-rprivate /
mount -t proc proc /proc
mount --bind "$FOLDER/run" /run
mount --bind "$FOLDER/log" /var/log

# The kubelet would set these for the whole machine. Here it finds them as it wants them.
for setting in "$FOLDER"/sysctl/*; do
  path=$(basename "$setting" | tr . /)
  if [ -e "/proc/sys/$path" ]; then mount --bind "$setting" "/proc/sys/$path"; fi
done
mount --make-rshared /

trap 'exit 0' TERM INT
socket=/run/containerd/containerd.sock
part() {
  name=$1
  shift
  {
    code=0
    "$@" >"$FOLDER/$name.log" 2>&1 || code=$?
    echo "$name ended with $code:"
    tail -n 20 "$FOLDER/$name.log"
    kill -TERM 1
  } &
}
part containerd "$CONTAINERD" --config "$FOLDER/containerd.toml"
until [ -S "$socket" ]; do sleep 0.1; done
part kubelet "$KUBELET" --config="$FOLDER/kubelet.yaml" --kubeconfig="$KUBECONFIG" --hostname-override="$NODE" \
  --root-dir="$FOLDER/kubelet" --cert-dir="$FOLDER/kubelet/pki"
while :; do wait; sleep 1; done
