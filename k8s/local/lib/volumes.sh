# Volumes of the local cluster: directories, since nothing here would provision any. Sourced by up.
# shellcheck shell=bash

# volumes COUNT: a StorageClass, the default one, and this many volumes.
volumes() {
  local i
  cat <<'TEXT'
apiVersion: storage.k8s.io/v1
kind: StorageClass
metadata:
  name: local
  annotations: {storageclass.kubernetes.io/is-default-class: "true"}
provisioner: kubernetes.io/no-provisioner
TEXT
  for ((i = 0; i < $1; i++)); do
    mkdir -p "$dir/volumes/$i"
    # Pods run as different users, and nothing changes a directory's owner for them.
    chmod 777 "$dir/volumes/$i"
    cat <<TEXT
---
apiVersion: v1
kind: PersistentVolume
metadata: {name: local-$i}
spec:
  storageClassName: local
  accessModes: [ReadWriteOnce]
  capacity: {storage: 10Gi}
  hostPath: {path: $dir/volumes/$i}
TEXT
  done
}
