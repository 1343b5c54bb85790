# A private authority, and a certificate of it for the servers. Sourced by services and by
# tests of the cluster.
# shellcheck shell=bash

# make_certificates [NAME…]: made once a directory: $dir/tls/{ca.crt,server.crt,server.key}, for these names
# only, for localhost if none is given, so that 127.0.0.1 is a wrong host; and other-ca.crt, an authority
# that vouches for nobody here.
make_certificates() {
  local tls=$dir/tls names
  local -a hosts=("${@:-localhost}")
  printf -v names ',DNS:%s' "${hosts[@]}"
  [[ -f $tls/complete ]] && return
  rm -rf -- "$tls"
  mkdir -p "$tls"
  local log=$dir/certificates.log
  {
    authority "$tls/ca" 'windlass test authority' &&
      authority "$tls/other-ca" 'another authority' &&
      openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -sha256 \
        -keyout "$tls/server.key" -out "$tls/server.csr" -subj "/CN=${hosts[0]}" &&
      openssl x509 -req -sha256 -days 3650 -in "$tls/server.csr" -CA "$tls/ca.crt" -CAkey "$tls/ca.key" \
        -CAcreateserial -out "$tls/server.crt" \
        -extfile <(printf 'subjectAltName=%s\nextendedKeyUsage=serverAuth\n' "${names#,}")
  } >"$log" 2>&1 || {
    tail -n 25 "$log" >&2
    die "openssl could not make certificates (whole log: $log)"
  }
  touch "$tls/complete"
}

authority() {
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -sha256 -days 3650 \
    -keyout "$1.key" -out "$1.crt" -subj "/CN=$2" -addext basicConstraints=critical,CA:TRUE \
    -addext keyUsage=critical,keyCertSign
}
