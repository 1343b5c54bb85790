# Keys, certificates and kubeconfigs of a cluster, made anew for each. Sourced by up.
# shellcheck shell=bash

make_certificates() (
  umask 077
  local pki=$dir/pki
  rm -rf -- "$pki"
  mkdir -p "$pki"
  openssl ecparam -genkey -name prime256v1 -noout -out "$pki/ca.key" 2>/dev/null
  openssl req -x509 -new -key "$pki/ca.key" -days 365 -subj /CN=windlass-local -out "$pki/ca.crt"
  openssl ecparam -genkey -name prime256v1 -noout -out "$pki/service-accounts.key" 2>/dev/null
  openssl ec -in "$pki/service-accounts.key" -pubout -out "$pki/service-accounts.pub" 2>/dev/null

  local names=DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc
  names+=,DNS:kubernetes.default.svc.cluster.local,DNS:localhost,IP:127.0.0.1
  certificate apiserver /CN=kube-apiserver "$names,IP:$(network first-service),IP:$(network node)"
  certificate kubelet /O=system:nodes/CN=system:node:windlass "DNS:windlass,IP:$(network node)"
  certificate admin /O=system:masters/CN=admin
  certificate controller-manager /CN=system:kube-controller-manager
  certificate scheduler /CN=system:kube-scheduler
  certificate proxy /CN=system:kube-proxy
  local name
  for name in kubelet admin controller-manager scheduler proxy; do
    kubeconfig_of "$name" >"$dir/$name.kubeconfig"
  done
)

# certificate NAME SUBJECT [SUBJECT-ALTERNATIVE-NAMES]
certificate() {
  local at=$dir/pki/$1
  openssl ecparam -genkey -name prime256v1 -noout -out "$at.key" 2>/dev/null
  openssl req -new -key "$at.key" -subj "$2" -out "$at.csr"
  {
    echo extendedKeyUsage=serverAuth,clientAuth
    [[ -z ${3:-} ]] || echo "subjectAltName=$3"
  } >"$at.extensions"
  openssl x509 -req -in "$at.csr" -CA "$dir/pki/ca.crt" -CAkey "$dir/pki/ca.key" -CAcreateserial -days 365 \
    -extfile "$at.extensions" -out "$at.crt" 2>/dev/null
}

kubeconfig_of() {
  local at=$dir/pki
  cat <<TEXT
apiVersion: v1
kind: Config
current-context: windlass-local
contexts:
  - name: windlass-local
    context: {cluster: windlass-local, user: $1}
clusters:
  - name: windlass-local
    cluster:
      server: https://$(network node):6443
      certificate-authority-data: $(base64 -w0 "$at/ca.crt")
users:
  - name: $1
    user:
      client-certificate-data: $(base64 -w0 "$at/$1.crt")
      client-key-data: $(base64 -w0 "$at/$1.key")
TEXT
}
