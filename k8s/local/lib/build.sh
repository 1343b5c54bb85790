# The cluster's programs, built once into the cache. Sourced by up.
# shellcheck shell=bash

# Debian 12 packages everything around Kubernetes, but of Kubernetes itself only the client. Its source
# package is whole, though, and vendored: no module is fetched.
kubernetes_suite=bookworm
kubernetes_programs=(kube-apiserver kube-controller-manager kube-scheduler kubelet kube-proxy)

need_cluster_packages() {
  local -a missing=()
  local pair
  # Some of these are no commands, so ask for a file that the package installs.
  for pair in \
    iptables:/usr/sbin/iptables conntrack:/usr/sbin/conntrack iproute2:/usr/sbin/ip jq:/usr/bin/jq \
    openssl:/usr/bin/openssl etcd-server:/usr/bin/etcd containerd:/usr/bin/containerd runc:/usr/sbin/runc \
    containernetworking-plugins:/usr/lib/cni/bridge dnsmasq-base:/usr/sbin/dnsmasq \
    ca-certificates:/usr/sbin/update-ca-certificates; do
    [[ -e ${pair#*:} ]] || missing+=("${pair%%:*}")
  done
  ((!${#missing[@]})) || install_packages "${missing[@]}"
}

need_kubernetes() {
  [[ -f $programs/complete ]] || (
    mkdir -p "$programs"
    flock 7
    [[ -f $programs/complete ]] || build_kubernetes
  ) 7>"$cache/kubernetes.lock"
}

build_kubernetes() {
  local -a missing=()
  local pair log=$programs/log
  for pair in golang-go:/usr/bin/go dpkg-dev:/usr/bin/dpkg-source make:/usr/bin/make gcc:/usr/bin/gcc \
    rsync:/usr/bin/rsync; do
    [[ -e ${pair#*:} ]] || missing+=("${pair%%:*}")
  done
  ((!${#missing[@]})) || install_packages "${missing[@]}"
  printf 'building Kubernetes once into %s: some minutes on two cores (log: %s)\n' "$programs" "$log" >&2
  (
    set -e
    export GOPATH=$programs/go GOCACHE=$programs/go-cache GO111MODULE=off CGO_ENABLED=0 GOFLAGS=
    rm -rf -- "$GOPATH" "$GOCACHE"
    fetch_source kubernetes "$kubernetes_suite" "$GOPATH/src/k8s.io/kubernetes"
    cd "$GOPATH/src/k8s.io/kubernetes"
    compile_kubernetes
    gcc -static -Os -s -o "$programs/pause" build/pause/linux/pause.c 2>/dev/null ||
      gcc -static -Os -s -o "$programs/pause" build/pause/pause.c
    touch "$programs/complete"
    chmod -R u+w "$GOPATH" && rm -rf -- "$GOPATH" "$GOCACHE"
  ) >"$log" 2>&1 || {
    tail -n 25 "$log" >&2
    die "Kubernetes could not be built (whole log: $log)"
  }
}

# In the source's root, with Go's environment set.
compile_kubernetes() {
  local version commit=0000000000000000000000000000000000000000
  version=$(sed -n 's/^kubernetes (\([0-9]*:\)\?.*really\([0-9.]*\)-.*/\2/p; q' debian/changelog)
  [[ -n $version ]] || version=$(sed -n 's/^kubernetes (\([0-9.]*\).*/\1/p; q' debian/changelog)
  local major=${version%%.*} minor=${version#*.}
  minor=${minor%%.*}
  printf '%s\n' "KUBE_GIT_COMMIT='$commit'" KUBE_GIT_TREE_STATE=archive "KUBE_GIT_VERSION='v$version'" \
    "KUBE_GIT_MAJOR='$major'" "KUBE_GIT_MINOR='$minor'" >"$programs/version"
  KUBE_GIT_VERSION_FILE=$programs/version nice -n 19 make generated_files
  local at flags=
  for at in component-base/version client-go/pkg/version; do
    at=k8s.io/kubernetes/vendor/k8s.io/$at
    flags+=" -X $at.gitVersion=v$version -X $at.gitMajor=$major -X $at.gitMinor=$minor"
    flags+=" -X $at.gitCommit=$commit -X $at.gitTreeState=archive"
  done
  nice -n 19 go build -p 2 -trimpath -ldflags "-s -w$flags" -o "$programs/" \
    "${kubernetes_programs[@]/#/k8s.io/kubernetes/cmd/}"
}

# fetch_source PACKAGE SUITE DIR: unpacks a Debian source package, with Debian's patches.
fetch_source() {
  local at=$programs/apt
  local -a own
  own_apt "$at" "deb-src" "$2"
  (
    cd "$at"
    apt-get "${own[@]}" update
    apt-get "${own[@]}" source --download-only "$1"
    mkdir -p "$(dirname "$3")"
    dpkg-source --no-check -x ./*.dsc "$3"
  )
  rm -rf -- "$at"
}

# The oldest kubectl whose own kustomize knows components is 1.21, and Debian 12 has 1.20. Where the
# machine has none that is new enough, one of a later Debian is unpacked.
need_kubectl() {
  local minor
  minor=$(kubectl version --client -o json 2>/dev/null | jq -r '.clientVersion.minor' 2>/dev/null) || minor=
  if [[ ${minor//[^0-9]/} -ge 21 ]]; then
    kubectl=$(command -v kubectl)
    return
  fi
  unpack_packages "$cache/kubectl" kubernetes-client
  mkdir -p "$cache/kubectl/bin"
  # A folder with nothing else in it, for a PATH.
  ln -sf ../root/usr/bin/kubectl "$cache/kubectl/bin/kubectl"
  kubectl=$cache/kubectl/bin/kubectl
}
