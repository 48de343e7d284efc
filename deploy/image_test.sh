#!/usr/bin/env bash
# Builds the image with buildah and runs it as a container runtime would: own network (loopback only), own process
# ids, read-only root file system, numeric user, no capabilities. Needs root, and no container engine.
#
#   BASE                 base image [docker.io/library/python:3.11-slim-bookworm]; where no registry answers, a
#                        stand-in is made with debootstrap
#   IMAGE_TEST_ROOTFS    folder that keeps the stand-in's files from one run to the next
#   IMAGE_TEST_KEEP      name under which the image is kept as an OCI archive, such as /tmp/keras-serving.tar
#   DEBIAN_MIRROR        for debootstrap [its own default]
#   PIP_INDEX_URL, PIP_EXTRA_INDEX_URL, http_proxy, https_proxy, no_proxy    handed to the build when set
set -euo pipefail
cd "$(dirname "$0")/.."

BASE=${BASE:-docker.io/library/python:3.11-slim-bookworm}
STAND_IN=localhost/keras-serving-test-base:bookworm
IMAGE=localhost/keras-serving:test
MAX_IMAGE_MB=${MAX_IMAGE_MB:-800}
READY_S=60
STOP_S=15

say() { printf '\n== %s\n' "$*"; }
fail() { printf 'image-test: %s\n' "$*" >&2; exit 1; }

[ "$(id -u)" = 0 ] || fail "needs root: it mounts, and makes namespaces. Run it as root."
for tool in buildah unshare nsenter setpriv chroot ip; do
  command -v "$tool" >/dev/null || fail "$tool is missing. On Debian: apt-get install buildah debootstrap util-linux iproute2."
done
compgen -G 'models/pretrained/*/manifest.json' >/dev/null || fail "models/pretrained holds no bundle: nothing to serve."

work=$(mktemp -d "${TMPDIR:-/tmp}/image-test.XXXXXX")
server=
# A storage of its own: nobody else's images are touched, and removing it is all the tidying there is.
export BUILDAH_ISOLATION=${BUILDAH_ISOLATION:-chroot} STORAGE_DRIVER=${STORAGE_DRIVER:-vfs}
b() { buildah --root "$work/storage" --runroot "$work/run" "$@"; }

tidy() {
  [ -z "$server" ] || kill -KILL "$server" 2>/dev/null || true
  b umount --all >/dev/null 2>&1 || true
  b rm --all >/dev/null 2>&1 || true
  rm -rf --one-file-system "$work"
}
trap tidy EXIT
trap 'exit 130' INT TERM

say "base image"
if timeout 60 buildah --root "$work/storage" --runroot "$work/run" pull --quiet "$BASE" 2>"$work/pull.log"; then
  echo "$BASE"
else
  tail -n 1 "$work/pull.log"
  command -v debootstrap >/dev/null || fail "no registry answers and debootstrap is missing. Install one of the two ways."
  rootfs=${IMAGE_TEST_ROOTFS:-$work/rootfs}
  if [ ! -e "$rootfs/usr/bin/python3" ]; then
    debootstrap --variant=minbase --include=python3,python3-venv,ca-certificates bookworm "$rootfs" \
      ${DEBIAN_MIRROR:+"$DEBIAN_MIRROR"} >"$work/debootstrap.log" || { tail "$work/debootstrap.log"; fail "debootstrap failed"; }
  fi
  container=$(b from scratch)
  b add --quiet "$container" "$rootfs" / >/dev/null
  b commit --quiet --format docker "$container" "$STAND_IN" >/dev/null
  b rm "$container" >/dev/null
  BASE=$STAND_IN
  echo "stand-in: $BASE"
fi

say "build"
arguments=()
for name in PIP_INDEX_URL PIP_EXTRA_INDEX_URL http_proxy https_proxy no_proxy; do
  [ -z "${!name:-}" ] || arguments+=(--build-arg "$name=${!name}")
done
# The host's certificates, for a network that has its own; they do not end up in the image.
[ ! -d /etc/ssl/certs ] || arguments+=(--volume /etc/ssl/certs:/etc/ssl/certs:ro)
started=$SECONDS
b bud --pull-never --quiet --format docker --build-arg "BASE=$BASE" "${arguments[@]}" \
  --build-arg "REVISION=$(git rev-parse HEAD 2>/dev/null || echo unknown)" --tag "$IMAGE" . >"$work/build.log" 2>&1 ||
  { tail -n 40 "$work/build.log"; fail "the build failed"; }
echo "built in $((SECONDS - started)) s"

say "what the image says"
config() { b inspect --type image --format "$1" "$IMAGE"; }
lines() { config "{{range .Docker.Config.$1}}{{println .}}{{end}}" | sed '/^$/d'; }
[ "$(config '{{.Docker.Config.User}}')" = 10001:10001 ] || fail "the user is $(config '{{.Docker.Config.User}}'), not 10001:10001"
[ "$(config '{{.Docker.Config.StopSignal}}')" = SIGTERM ] || fail "the stop signal is $(config '{{.Docker.Config.StopSignal}}')"
mapfile -t environment < <(lines Env)
mapfile -t entrypoint < <(lines Entrypoint)
mapfile -t health < <(lines Healthcheck.Test)
[ "${health[0]}" = CMD ] || fail "the health check is no command in exec form: ${health[*]:-none}"
[ "${entrypoint[0]}" = keras-serving ] || fail "the entry point is ${entrypoint[*]:-empty}"
echo "entry point: ${entrypoint[*]}"

container=$(b from --pull-never "$IMAGE")
root=$(b mount "$container")
size=$(du -sm "$root" | cut -f1)
echo "size: $size MB uncompressed, of which /opt/keras-serving $(du -sm "$root/opt/keras-serving" | cut -f1) MB"
[ "$size" -le "$MAX_IMAGE_MB" ] || fail "the image has $size MB, more than $MAX_IMAGE_MB"
[ -z "$(find "$root/opt/keras-serving" -writable -user 10001 -print -quit)" ] || fail "the service's user owns its own code"

# A new named volume gets the owner of the image's folder.
volume=$work/volume
mkdir "$volume"
# Every container runtime provides this file.
printf '127.0.0.1 localhost\n' >"$work/hosts"
touch "$root/etc/hosts"
chown --reference="$root/var/lib/keras-serving" "$volume"

confined=(setpriv --reuid 10001 --regid 10001 --clear-groups --no-new-privs --inh-caps=-all --bounding-set=-all
  env -i "${environment[@]}")

# Starts the entry point as process 1 of its own namespaces; leaves its process id out here in $main.
start() {
  # shellcheck disable=SC2016
  unshare --mount --pid --net --ipc --uts --fork --kill-child=KILL -- bash -euc '
    root=$1 volume=$2 hosts=$3; shift 3
    mount --bind "$root" "$root"
    mount --bind -o remount,ro "$root"
    mount -t proc proc "$root/proc"
    mount --rbind /dev "$root/dev"
    mount -t tmpfs -o size=64m,mode=1777,nosuid,nodev tmpfs "$root/tmp"
    mount --bind "$volume" "$root/var/lib/keras-serving"
    mount --bind "$hosts" "$root/etc/hosts"
    ip link set lo up
    exec chroot "$root" "$@"
  ' image-test "$root" "$volume" "$work/hosts" "${confined[@]}" "${entrypoint[@]}" >"$work/server.log" 2>&1 &
  server=$!
  for _ in $(seq 50); do
    main=$(cat "/proc/$server/task/$server/children" 2>/dev/null || true)
    main=${main%% *}
    [ -z "$main" ] || break
    sleep 0.1
  done
  local began=$SECONDS
  until healthy; do
    kill -0 "$server" 2>/dev/null || { tail -n 40 "$work/server.log"; fail "the container ended by itself"; }
    [ $((SECONDS - began)) -lt "$READY_S" ] || { tail -n 40 "$work/server.log"; fail "not healthy after $READY_S s"; }
    sleep 0.2
  done
  echo "healthy after $((SECONDS - began)) s"
}

# Runs a command in the running container, as `docker exec` would.
inside() { nsenter --target "$main" --mount --pid --net --ipc --uts -- chroot "$root" "${confined[@]}" "$@"; }
healthy() { inside "${health[@]:1}" >/dev/null 2>&1; }

stop() {
  local began=$SECONDS status=0
  kill -TERM "$main"
  while kill -0 "$server" 2>/dev/null && [ $((SECONDS - began)) -lt "$STOP_S" ]; do sleep 0.1; done
  ! kill -0 "$server" 2>/dev/null || { tail -n 40 "$work/server.log"; fail "still running $STOP_S s after SIGTERM"; }
  wait "$server" || status=$?
  server=
  [ "$status" = 0 ] || { tail -n 40 "$work/server.log"; fail "exit status $status after SIGTERM, not 0"; }
  echo "exit 0 $((SECONDS - began)) s after SIGTERM"
}

say "first start, with an empty volume"
start
inside python3 - <deploy/image_check.py || { tail -n 40 "$work/server.log"; fail "a check inside the container failed"; }
stop
[ -s "$volume/aliases.json" ] || fail "nothing was kept on the volume"
kept=$(stat -c '%i %Y' "$volume/aliases.json")

say "second start, with the same volume"
start
inside python3 - <deploy/image_check.py || { tail -n 40 "$work/server.log"; fail "a check inside the container failed"; }
stop
[ "$(stat -c '%i %Y' "$volume/aliases.json")" = "$kept" ] || fail "the second start wrote the aliases anew"

[ -z "${IMAGE_TEST_KEEP:-}" ] || b push --quiet "$IMAGE" "oci-archive:$IMAGE_TEST_KEEP"
say "image-test passed"
