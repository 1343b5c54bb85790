# Images without a registry or a builder: an archive in the form of `docker save`, made with tar,
# sha256sum and jq. Sourced by k8s/image and k8s/local/images.
# shellcheck shell=bash

# archive_image NAME LAYER CONFIG OUT: packs the directory LAYER as the only layer of an image; CONFIG is
# the JSON of its `config` (Entrypoint, User, Env and so on).
archive_image() {
  local name=$1 layer=$2 config=$3 out=$4 at digest image
  at=$(mktemp -d "$(dirname "$out")/archive.XXXXXX")
  # Owners, order and times fixed: the same files give the same image.
  tar --create --file "$at/layer.tar" --directory "$layer" --sort=name --owner=0 --group=0 --numeric-owner \
    --mtime=@0 .
  digest=$(sha256sum "$at/layer.tar")
  digest=${digest%% *}
  jq --null-input --compact-output --argjson config "$config" --arg digest "sha256:$digest" '{
      created: "1970-01-01T00:00:00Z", architecture: "amd64", os: "linux", config: $config,
      rootfs: {type: "layers", diff_ids: [$digest]}
    }' >"$at/config"
  image=$(sha256sum "$at/config")
  image=${image%% *}
  mv "$at/config" "$at/$image.json"
  jq --null-input --arg config "$image.json" --arg name "$name" \
    '[{Config: $config, RepoTags: [$name], Layers: ["layer.tar"]}]' >"$at/manifest.json"
  tar --create --file "$out.new" --directory "$at" manifest.json "$image.json" layer.tar
  mv "$out.new" "$out"
  rm -rf -- "$at"
}

# pause_image PROGRAM OUT: the image of the process that holds a pod's namespaces.
pause_image() {
  local layer
  layer=$(mktemp -d)
  install -m 755 "$1" "$layer/pause"
  archive_image windlass.local/pause:1 "$layer" '{"Entrypoint": ["/pause"], "User": "65535"}' "$2"
  rm -rf -- "$layer"
}
