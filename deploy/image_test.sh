#!/usr/bin/env bash
# Builds the images for CPU and for training with buildah and runs them as a container runtime would: own network
# (loopback only), own process ids, read-only root file system, numeric user, no capabilities. Needs root, and no
# container engine. What is shown: first start, stop, restart, a start over the store that an early version of this program
# wrote, a retraining whose result the other image serves, and, if asked for, the image for GPUs, on a machine without one.
#
#   BASE                 base image [docker.io/library/python:3.11-slim-bookworm]; where no registry answers, a
#                        stand-in is made with debootstrap
#   IMAGE_TEST_ROOTFS    folder that keeps the stand-in's files from one run to the next
#   IMAGE_TEST_TARGETS   what is built ["cpu train"], of cpu, train and gpu; "cpu" alone needs 3 GB of disk and no TensorFlow
#   IMAGE_TEST_KEEP      name under which the CPU image is kept as an OCI archive, such as /tmp/keras-serving.tar
#   DEBIAN_MIRROR        for debootstrap [its own default]
#   PIP_INDEX_URL, PIP_EXTRA_INDEX_URL, http_proxy, https_proxy, no_proxy    handed to the build when set
set -euo pipefail
cd "$(dirname "$0")/.."

BASE=${BASE:-docker.io/library/python:3.11-slim-bookworm}
STAND_IN=localhost/keras-serving-test-base:bookworm
TARGETS=${IMAGE_TEST_TARGETS:-cpu train}
MAX_CPU_MB=${MAX_CPU_MB:-500}
MAX_TRAIN_MB=${MAX_TRAIN_MB:-2500}
MAX_GPU_MB=${MAX_GPU_MB:-1000}
HOME_INSIDE=/var/lib/keras-serving
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
  # What the official image lacks too.
  rm -rf "$rootfs"/var/cache/apt/* "$rootfs"/var/lib/apt/lists/* "$rootfs"/usr/share/doc/* "$rootfs"/usr/share/man/*
  container=$(b from scratch)
  b add --quiet "$container" "$rootfs" / >/dev/null
  b commit --quiet --format docker "$container" "$STAND_IN" >/dev/null
  b rm "$container" >/dev/null
  BASE=$STAND_IN
  echo "stand-in: $BASE"
fi

arguments=()
for name in PIP_INDEX_URL PIP_EXTRA_INDEX_URL http_proxy https_proxy no_proxy; do
  [ -z "${!name:-}" ] || arguments+=(--build-arg "$name=${!name}")
done
# The host's certificates, for a network that has its own; they do not end up in the image.
[ ! -d /etc/ssl/certs ] || arguments+=(--volume /etc/ssl/certs:/etc/ssl/certs:ro)

# Builds the image for a target; leaves its name in $image, its root folder in $root, and refuses more than so many MB.
build() {
  local target=$1 most=$2 started=$SECONDS container size
  say "build for $target"
  image=localhost/keras-serving:test-$target
  b bud --pull-never --format docker --build-arg "BASE=$BASE" --build-arg "TARGET=$target" "${arguments[@]}" \
    --build-arg "REVISION=$(git rev-parse HEAD 2>/dev/null || echo unknown)" --tag "$image" . >"$work/build.log" 2>&1 ||
    { tail -n 40 "$work/build.log"; fail "the build failed"; }
  grep '^slim:' "$work/build.log" || true
  container=$(b from --pull-never "$image")
  root=$(b mount "$container")
  # Every container runtime provides this file.
  touch "$root/etc/hosts"
  size=$(du -sm "$root" | cut -f1)
  echo "built in $((SECONDS - started)) s: $size MB uncompressed, of which /opt/keras-serving $(du -sm "$root/opt/keras-serving" | cut -f1) MB"
  [ "$size" -le "$most" ] || fail "the image has $size MB, more than $most"
  [ -z "$(find "$root/opt/keras-serving" -writable -user 10001 -print -quit)" ] || fail "the service's user owns its own code"
}
build cpu "$MAX_CPU_MB"

say "what the image says"
config() { b inspect --type image --format "$1" "$image"; }
lines() { config "{{range .Docker.Config.$1}}{{println .}}{{end}}" | sed '/^$/d'; }
[ "$(config '{{.Docker.Config.User}}')" = 10001:10001 ] || fail "the user is $(config '{{.Docker.Config.User}}'), not 10001:10001"
[ "$(config '{{.Docker.Config.StopSignal}}')" = SIGTERM ] || fail "the stop signal is $(config '{{.Docker.Config.StopSignal}}')"
mapfile -t environment < <(lines Env)
mapfile -t entrypoint < <(lines Entrypoint)
mapfile -t health < <(lines Healthcheck.Test)
[ "${health[0]}" = CMD ] || fail "the health check is no command in exec form: ${health[*]:-none}"
[ "${entrypoint[0]}" = keras-serving ] || fail "the entry point is ${entrypoint[*]:-empty}"
echo "entry point: ${entrypoint[*]}"

printf '127.0.0.1 localhost\n' >"$work/hosts"

confined=(setpriv --reuid 10001 --regid 10001 --clear-groups --no-new-privs --inh-caps=-all --bounding-set=-all
  env -i --chdir="$HOME_INSIDE" "${environment[@]}")

# Makes a volume out of a folder's contents; a new named volume gets the owner of the image's folder.
volume_of() {
  mkdir "$1"
  [ -z "${2:-}" ] || cp -r "$2/." "$1"
  chown -R --reference="$root$HOME_INSIDE" "$1"
}

# Becomes a command that is process 1 of its own namespaces, confined, in the image that $root holds, with $volume.
contain() {
  # shellcheck disable=SC2016
  exec unshare --mount --pid --net --ipc --uts --fork --kill-child=KILL -- bash -euc '
    root=$1 volume=$2 hosts=$3 home=$4; shift 4
    mount --bind "$root" "$root"
    mount --bind -o remount,ro "$root"
    mount -t proc proc "$root/proc"
    mount --rbind /dev "$root/dev"
    mount -t tmpfs -o size=64m,mode=1777,nosuid,nodev tmpfs "$root/tmp"
    mount --bind "$volume" "$root$home"
    mount --bind "$hosts" "$root/etc/hosts"
    ip link set lo up
    exec chroot "$root" "$@"
  ' image-test "$root" "$volume" "$work/hosts" "$HOME_INSIDE" "${confined[@]}" "$@"
}

# Starts the entry point; leaves its process id out here in $main.
start() {
  contain "${entrypoint[@]}" >"$work/server.log" 2>&1 &
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

# Asks the running container about itself, and compares every model's answers; given are names and versions expected.
check() {
  inside python3 - --container "$@" <deploy/smoke.py || { tail -n 40 "$work/server.log"; fail "a check inside the container failed"; }
}
production() { inside python3 -c 'import sys; from pathlib import Path; from models.store import Store; print(Store(Path(sys.argv[1])).aliases().target(sys.argv[2]).version)' "$HOME_INSIDE" "$1"; }

say "first start, with an empty volume"
volume=$work/volume
volume_of "$volume"
start
check
stop
[ -s "$volume/aliases.json" ] || fail "nothing was kept on the volume"
kept=$(stat -c '%i %Y' "$volume/aliases.json")

say "second start, with the same volume"
start
check
stop
[ "$(stat -c '%i %Y' "$volume/aliases.json")" = "$kept" ] || fail "the second start wrote the aliases anew"

say "start with a store that an early version of this program wrote"
volume=$work/upgraded
volume_of "$volume" tests/deploy/first_light
start
check regressor:20260102-030405-27c1f450 wear:20260102-040405-36a48d26
inside keras-serving models promote wear 20260102-030405-27c1f450
inside keras-serving models rollback wear
check regressor:20260102-030405-27c1f450 wear:20260102-040405-36a48d26
stop

case " $TARGETS " in *" train "*)
  volume=$work/volume
  served=$root
  build train "$MAX_TRAIN_MB"
  say "training in a container"
  mkdir "$volume/data"
  rows() {
    echo months,charges,churn
    awk -v rows="$1" 'BEGIN { srand(1); for (i = 0; i < rows; i++) { months = int(rand() * 72) + 1;
      print months "," 20 + rand() * 100 "," (months + rand() * 16 < 38 ? "yes" : "no") } }'
  }
  rows 600 >"$volume/data/churn.csv"
  chown -R --reference="$volume" "$volume/data"
  # Nobody listens at the address: of a store in S3 only that it is asked for can be shown.
  s3=(AWS_ENDPOINT_URL=http://127.0.0.1:9 AWS_REGION=us-east-1 AWS_ACCESS_KEY_ID=none AWS_SECRET_ACCESS_KEY=none)
  retrain() { status=0; (contain env "${s3[@]}" keras-serving "$@") >"$work/train.log" 2>&1 || status=$?; tail -n 1 "$work/train.log"; }
  retrain train dnn --data data/churn.csv --target churn --set fit.epochs=3
  [ "$status" = 0 ] || { tail -n 40 "$work/train.log"; fail "training ended with $status"; }
  retrain retrain churn --when drift
  [ "$status" = 4 ] || { tail -n 40 "$work/train.log"; fail "with the same data, retraining ended with $status, not 4"; }
  retrain --store s3://models/fleet models list
  [ "$status" != 0 ] && grep -q EndpointConnectionError "$work/train.log" || fail "the client for S3 did not come as far as the network"
  rows 700 >"$volume/data/churn.csv"
  retrain retrain churn --force "image test"
  [ "$status" = 0 ] || { tail -n 40 "$work/train.log"; fail "retraining ended with $status"; }
  say "what was trained there is served here"
  root=$served image=localhost/keras-serving:test-cpu
  start
  check "churn:$(production churn)"
  stop
esac

case " $TARGETS " in *" gpu "*)
  # On the same base as the others, without CUDA: that the lock installs, that everything else works, and what is said.
  volume=$work/gpu
  volume_of "$volume"
  build gpu "$MAX_GPU_MB"
  say "the image for GPUs, without one"
  start
  check
  refusal=$(inside python3 -c '
from models.bundle import Bundle
from models.engines.onnx import OnnxEngine
from service.settings import PRETRAINED
OnnxEngine(Bundle.open(PRETRAINED / "dnn"), device="gpu")' 2>&1) && fail "a GPU was asked for, there is none, and nothing was said"
  tail -n 1 <<<"$refusal"
  case $refusal in *"CUDA provider did not start"*) ;; *) fail "that is not why";; esac
  stop
esac

[ -z "${IMAGE_TEST_KEEP:-}" ] || b push --quiet localhost/keras-serving:test-cpu "oci-archive:$IMAGE_TEST_KEEP"
say "image-test passed"
