#!/usr/bin/env bash
# Makes the images that the tests run, by hand, so that no registry is needed: an OCI archive with two names for a root
# file system of a static busybox. `/pause` keeps a sandbox, as the real one does, under the same process name.
#
#   images.sh BUSYBOX ARCHIVE
set -euo pipefail

[ $# -eq 2 ] || {
  sed -n '2,5s/^# \{0,1\}//p' "$0" >&2
  exit 64
}
busybox=$1
archive=$2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Stores a file under its digest; prints `DIGEST SIZE`.
store() {
  local digest
  digest=$(sha256sum <"$1" | cut -d ' ' -f 1)
  mv "$1" "$work/oci/blobs/sha256/$digest"
  echo "$digest $(stat -c %s "$work/oci/blobs/sha256/$digest")"
}

mkdir -p "$work/root/bin" "$work/root/tmp" "$work/root/etc" "$work/oci/blobs/sha256"
cp "$busybox" "$work/root/bin/busybox"
for name in sh sleep cat true; do
  ln -s busybox "$work/root/bin/$name"
done
printf '#!/bin/sh\nsleep 2147483647 & wait\n' >"$work/root/pause"
chmod 755 "$work/root/pause"

tar -C "$work/root" --owner=0 --group=0 --mtime=@0 --sort=name -cf "$work/layer" .
read -r layer layer_size < <(store "$work/layer")
architecture=$(dpkg --print-architecture)
cat >"$work/config" <<JSON
{"architecture":"$architecture","os":"linux","config":{"Cmd":["/pause"],"Env":["PATH=/bin"]},
 "rootfs":{"type":"layers","diff_ids":["sha256:$layer"]},"history":[{"created_by":"by hand"}]}
JSON
read -r config config_size < <(store "$work/config")
cat >"$work/manifest" <<JSON
{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json",
 "config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"sha256:$config","size":$config_size},
 "layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"sha256:$layer","size":$layer_size}]}
JSON
read -r manifest manifest_size < <(store "$work/manifest")
entry() {
  cat <<JSON
{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:$manifest","size":$manifest_size,
 "annotations":{"io.containerd.image.name":"localhost/$1:1"}}
JSON
}
echo "{\"schemaVersion\":2,\"manifests\":[$(entry pause),$(entry app)]}" >"$work/oci/index.json"
echo '{"imageLayoutVersion":"1.0.0"}' >"$work/oci/oci-layout"
tar -C "$work/oci" --owner=0 --group=0 --mtime=@0 --sort=name -cf "$work/archive" .
mv "$work/archive" "$archive"
