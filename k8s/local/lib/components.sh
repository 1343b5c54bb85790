# How each program of the cluster is started. Sourced by lib/component, inside the namespaces.
# shellcheck shell=bash

# In the order of starting.
components=(etcd kube-apiserver kube-controller-manager kube-scheduler containerd kubelet kube-proxy dnsmasq names)

start_component() {
  alive "$1" && return
  case $1 in
    etcd)
      # A test cluster outlives no power cut: its store need not reach the disk.
      launch etcd etcd --data-dir "$dir/etcd" --unsafe-no-fsync --logger zap --log-level warn \
        --listen-client-urls http://127.0.0.1:2379 --advertise-client-urls http://127.0.0.1:2379 \
        --listen-peer-urls http://127.0.0.1:2380
      ;;
    kube-apiserver) start_apiserver ;;
    kube-controller-manager)
      launch "$1" "$programs/$1" --kubeconfig "$dir/controller-manager.kubeconfig" --leader-elect=false \
        --service-account-private-key-file "$dir/pki/service-accounts.key" --root-ca-file "$dir/pki/ca.crt" \
        --use-service-account-credentials --profiling=false
      ;;
    kube-scheduler)
      launch "$1" "$programs/$1" --kubeconfig "$dir/scheduler.kubeconfig" --leader-elect=false --profiling=false
      ;;
    containerd)
      containerd_configuration >"$dir/containerd.toml"
      network_configuration >"$dir/cni/10-windlass.conflist"
      launch containerd containerd --config "$dir/containerd.toml" --log-level warn
      ;;
    kubelet)
      kubelet_configuration >"$dir/kubelet.yaml"
      : >"$dir/resolv.conf"
      launch "$1" "$programs/$1" --config "$dir/kubelet.yaml" --kubeconfig "$dir/kubelet.kubeconfig" \
        --root-dir "$dir/kubelet" --hostname-override windlass --node-ip "$(network node)" \
        --container-runtime remote --container-runtime-endpoint unix:///run/containerd/containerd.sock
      ;;
    kube-proxy)
      launch "$1" "$programs/$1" --kubeconfig "$dir/proxy.kubeconfig" --hostname-override windlass \
        --proxy-mode iptables --cluster-cidr "$(network pods)" --conntrack-max-per-core 0 --conntrack-min 0
      ;;
    dnsmasq)
      touch "$dir/hosts"
      # Names outside the cluster do not exist: no pod needs one.
      launch "$1" dnsmasq --keep-in-foreground --conf-file=/dev/null --pid-file= --user=root --no-resolv --no-hosts \
        --addn-hosts "$dir/hosts" --listen-address "$(network node)" --bind-interfaces --local=// \
        --local=/cluster.local/ --address=/#/ --cache-size=0 --local-ttl=1
      ;;
    names) launch names "$here/lib/names" "$dir" "$kubectl" ;;
  esac
}

start_apiserver() {
  local pki=$dir/pki
  launch kube-apiserver "$programs/kube-apiserver" --etcd-servers http://127.0.0.1:2379 \
    --advertise-address "$(network node)" --service-cluster-ip-range "$(network services)" \
    --authorization-mode Node,RBAC --enable-admission-plugins NodeRestriction \
    --client-ca-file "$pki/ca.crt" --tls-cert-file "$pki/apiserver.crt" --tls-private-key-file "$pki/apiserver.key" \
    --kubelet-certificate-authority "$pki/ca.crt" --kubelet-preferred-address-types InternalIP \
    --kubelet-client-certificate "$pki/admin.crt" --kubelet-client-key "$pki/admin.key" \
    --service-account-issuer https://kubernetes.default.svc.cluster.local \
    --service-account-signing-key-file "$pki/service-accounts.key" \
    --service-account-key-file "$pki/service-accounts.pub" --profiling=false
}

containerd_configuration() {
  cat <<TEXT
version = 2
root = "$dir/containerd"
state = "/run/containerd"
[grpc]
address = "/run/containerd/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "windlass.local/pause:1"
# Without it every sandbox fails where root may not lower its own badness.
restrict_oom_score_adj = true
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "/usr/lib/cni"
conf_dir = "$dir/cni"
[plugins."io.containerd.grpc.v1.cri".containerd]
snapshotter = "overlayfs"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
TEXT
}

network_configuration() {
  cat <<TEXT
{
  "cniVersion": "0.4.0",
  "name": "windlass",
  "plugins": [
    {
      "type": "bridge", "bridge": "pods", "isGateway": true, "hairpinMode": true,
      "ipam": {
        "type": "host-local", "dataDir": "/run/cni", "ranges": [[{"subnet": "$(network pods)"}]],
        "routes": [{"dst": "0.0.0.0/0"}]
      }
    },
    {"type": "portmap", "capabilities": {"portMappings": true}}
  ]
}
TEXT
}

kubelet_configuration() {
  cat <<TEXT
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication:
  anonymous: {enabled: false}
  x509: {clientCAFile: $dir/pki/ca.crt}
authorization: {mode: Webhook}
tlsCertFile: $dir/pki/kubelet.crt
tlsPrivateKeyFile: $dir/pki/kubelet.key
cgroupDriver: cgroupfs
cgroupRoot: /windlass-$(network number)
failSwapOn: false
clusterDNS: [$(network node)]
clusterDomain: cluster.local
resolvConf: $dir/resolv.conf
serializeImagePulls: false
# The machine's disk is not the cluster's business.
evictionHard: {memory.available: 100Mi, nodefs.available: 1%, imagefs.available: 1%}
imageGCHighThresholdPercent: 100
TEXT
}
