#!/usr/bin/env bash
# Builds the image with buildah, without a daemon and without an image registry, and runs `hydrant check` in it. Needs root.
#   apt-get install buildah mmdebstrap crun
# The base is a minimal Debian with the Node that the lock file names; the Debian tree is kept in the cache folder of the tests.
set -euo pipefail
cd "$(dirname "$0")/.."
for tool in buildah mmdebstrap; do
  command -v "$tool" >/dev/null || { echo "image: $tool is not installed" >&2; exit 1; }
done
node scripts/setup.mjs

suite=bookworm npm_version=11.19.1
cache=${HYDRANT_TEST_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/hydrant-test}/image
work=$(mktemp -d)
export BUILDAH_ISOLATION=chroot STORAGE_DRIVER=${STORAGE_DRIVER:-overlay}
image() { buildah --root "$work/storage" --runroot "$work/run" "$@"; }
policy=(--signature-policy "$work/policy.json")
cleanup() {
  image rm --all >/dev/null 2>&1 || true
  rm -rf "$work"
}
trap cleanup EXIT
echo '{"default":[{"type":"insecureAcceptAnything"}]}' >"$work/policy.json"

tree=$cache/$suite-libatomic1.tar
if [ ! -s "$tree" ]; then
  mkdir -p "$cache"
  mmdebstrap --quiet --variant=minbase --include=ca-certificates,libatomic1 "$suite" "$work/base.tar"
  mv "$work/base.tar" "$tree"
fi

echo 'image: base'
mkdir -p "$work/local/bin" "$work/local/lib/node_modules"
cp -L node_modules/node-linux-*/bin/node "$work/local/bin/node"
npm pack --silent --pack-destination "$work" "npm@$npm_version" >/dev/null
tar -xzf "$work/npm-$npm_version.tgz" -C "$work/local/lib/node_modules"
mv "$work/local/lib/node_modules/package" "$work/local/lib/node_modules/npm"
ln -s ../lib/node_modules/npm/bin/npm-cli.js "$work/local/bin/npm"
base=$(image from "${policy[@]}" scratch)
image add --quiet "$base" "$tree" / >/dev/null
image copy --quiet "$base" "$work/local" /usr/local >/dev/null
mounts=()
if [ -n "${NODE_EXTRA_CA_CERTS:-}" ]; then # a network with its own certificate authority
  image config --env NODE_EXTRA_CA_CERTS=/etc/ssl/certs/ca-certificates.crt "$base"
  mounts=(--volume /etc/ssl/certs:/etc/ssl/certs:ro)
fi
image commit "${policy[@]}" --quiet --rm "$base" localhost/node:26 >/dev/null

echo 'image: build'
image bud "${policy[@]}" --quiet --format docker --pull=never --network host "${mounts[@]}" --build-arg BASE=localhost/node:26 -t localhost/hydrant . >&2

echo 'image: hydrant check in it'
for want in 'User 1000:1000' 'Healthcheck.Test [CMD node -e'; do
  got=$(image inspect --type image --format "{{.Docker.Config.${want%% *}}}" localhost/hydrant)
  case $got in "${want#* }"*) ;; *) echo "image: ${want%% *} is $got" >&2; exit 1 ;; esac
done
container=$(image from "${policy[@]}" --pull=never localhost/hydrant)
image run --env HYDRANT_SECRET_KEY=only-for-this-check "$container" -- node /opt/hydrant/core/bin/hydrant.js check -c /etc/hydrant/config.yaml
image run "$container" -- sh -c 'test "$(id -u)" = 1000 && touch /data/it-is-mine && ! touch /opt/hydrant/it-is-not 2>/dev/null'

# the network is the machine's: loopback, and ports that nobody else has
echo 'image: serve in it'
image run --env HYDRANT_SECRET_KEY=only-for-this-check "$container" -- sh -c '
  sed "s/0.0.0.0:/127.0.0.1:2/" /etc/hydrant/config.yaml >/data/loopback.yaml
  node /opt/hydrant/core/bin/hydrant.js serve -c /data/loopback.yaml & daemon=$!
  healthy="fetch(\"http://127.0.0.1:24581/health/live\").then((r) => process.exit(r.ok ? 0 : 1), () => process.exit(1))"
  tries=0
  until node -e "$healthy"; do
    tries=$((tries + 1))
    if [ "$tries" -ge 60 ] || ! kill -0 "$daemon"; then echo "image: not healthy"; exit 1; fi
    sleep 0.25
  done
  kill -TERM "$daemon" && wait "$daemon"'
echo 'image: built, checked, served, stopped'
