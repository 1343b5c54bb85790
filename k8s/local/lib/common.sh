# What the scripts of the local cluster share: where things are, and the tests' way with processes and
# packages. Sourced, with `here` naming k8s/local.
# shellcheck shell=bash

cache=${WINDLASS_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/windlass}
# Kubernetes's programs, built once.
programs=$cache/kubernetes
# Everything of one cluster: keys, data, logs, volumes.
dir=$(realpath -m "${WINDLASS_KUBERNETES_DIR:-${TMPDIR:-/tmp}/windlass-kubernetes}")

tests=$(realpath "$here/../../tests/lib")
# shellcheck source=../../../tests/lib/processes.sh
. "$tests/processes.sh"
# shellcheck source=../../../tests/lib/packages.sh
. "$tests/packages.sh"

need_root() {
  ((!EUID)) || die "a cluster takes root: it makes namespaces, mounts and network links"
}

# The cluster's addresses are 10.N.0.0/16 with one number N: .0.1 is the machine, .0.2 the node; pods
# and Services have a quarter of it each.
network() {
  local n
  n=$(cat "$dir/network" 2>/dev/null) || die "no cluster in $dir: run k8s/local/up first"
  case $1 in
    number) echo "$n" ;;
    machine) echo "10.$n.0.1" ;;
    node) echo "10.$n.0.2" ;;
    pods) echo "10.$n.64.0/18" ;;
    services) echo "10.$n.128.0/18" ;;
    first-service) echo "10.$n.128.1" ;;
    whole) echo "10.$n.0.0/16" ;;
  esac
}

# enter COMMAND…: runs a command inside the cluster's namespaces.
enter() {
  local init
  init=$(pid_of init) || die "no cluster runs in $dir: run k8s/local/up first"
  nsenter --target "$init" --mount --uts --ipc --net --pid -- "$@"
}
