#!/usr/bin/env bash
# Makes an image of the agent by hand, as an OCI archive, with nothing but the program and the libraries that it was linked with;
# deploy/Dockerfile makes the one that is shipped.
#   image.sh TRIMTAB ARCHIVE NAME
set -euo pipefail

trimtab=$1 archive=$2 name=$3
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/root/usr/local/bin" "$work/root/tmp" "$work/root/etc" "$work/root/run" "$work/oci/blobs/sha256"
install -s "$trimtab" "$work/root/usr/local/bin/trimtab"
ldd "$trimtab" | grep -o '/[^ ]*' | while read -r library; do
  install -D "$library" "$work/root$library"
done

# Stores a file under its digest; prints `"digest":…,"size":…`.
store() {
  local digest
  digest=$(sha256sum <"$1" | cut -d ' ' -f 1)
  mv "$1" "$work/oci/blobs/sha256/$digest"
  printf '"digest":"sha256:%s","size":%s' "$digest" "$(stat -c %s "$work/oci/blobs/sha256/$digest")"
}
oci=application/vnd.oci.image
tar -C "$work/root" --owner=0 --group=0 --mtime=@0 --sort=name -cf "$work/layer" .
layer=$(store "$work/layer")
printf '{"architecture":"%s","os":"linux","config":{"Entrypoint":["/usr/local/bin/trimtab"],"Env":["PATH=/usr/local/bin:/bin","MALLOC_ARENA_MAX=1"]},"rootfs":{"type":"layers","diff_ids":["%s"]}}' \
  "$(dpkg --print-architecture)" "$(cut -d '"' -f 4 <<<"$layer")" >"$work/config"
config=$(store "$work/config")
printf '{"schemaVersion":2,"mediaType":"%s.manifest.v1+json","config":{"mediaType":"%s.config.v1+json",%s},"layers":[{"mediaType":"%s.layer.v1.tar",%s}]}' \
  $oci $oci "$config" $oci "$layer" >"$work/manifest"
manifest=$(store "$work/manifest")
printf '{"schemaVersion":2,"manifests":[{"mediaType":"%s.manifest.v1+json",%s,"annotations":{"io.containerd.image.name":"%s"}}]}' \
  $oci "$manifest" "$name" >"$work/oci/index.json"
echo '{"imageLayoutVersion":"1.0.0"}' >"$work/oci/oci-layout"
tar -C "$work/oci" --owner=0 --group=0 --mtime=@0 --sort=name -cf "$archive" .
