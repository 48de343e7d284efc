#!/usr/bin/env bash
# Installs the package into an empty environment and builds a Bento, as a user would; each then serves from another folder
# and passes the smoke test (smoke.py). Needs Python 3.11 or 3.12, and a package index that pip knows.
set -euo pipefail
cd "$(dirname "$0")/.."

PYTHON=${PYTHON:-python3}
READY_S=60
STOP_S=20

say() { printf '\n== %s\n' "$*"; }
fail() { printf 'package-test: %s\n' "$*" >&2; exit 1; }

work=$(mktemp -d "${TMPDIR:-/tmp}/package-test.XXXXXX")
server=
tidy() {
  [ -z "$server" ] || kill -TERM "$server" 2>/dev/null || true
  rm -rf "$work"
}
trap tidy EXIT
trap 'exit 130' INT TERM

# Built from a copy: setuptools and BentoML leave things where they build.
mkdir "$work/source" "$work/elsewhere"
cp -r pyproject.toml README.md LICENSE requirements keras_serving models service training "$work/source"
find "$work/source" -name __pycache__ -prune -exec rm -rf {} +
smoke=$PWD/deploy/smoke.py
cd "$work/elsewhere"
export SERVING_HOME BENTOML_HOME=$work/bentoml BENTOML_DO_NOT_TRACK=True
unset PYTHONPATH

free_port() { "$PYTHON" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
is_ready() { "$PYTHON" -c "import http.client as h, sys; c = h.HTTPConnection('127.0.0.1', $1, timeout=4); c.request('GET', '/readyz'); sys.exit(c.getresponse().status != 200)" 2>/dev/null; }

# Starts the given command, followed by --port and the port, and asks it everything with the given Python.
serves() {
  local python=$1 port status=0 began=$SECONDS
  shift
  port=$(free_port)
  SERVING_GRPC_PORT=$(free_port)
  export SERVING_GRPC_PORT
  "$@" --port "$port" >"$work/server.log" 2>&1 &
  server=$!
  until is_ready "$port"; do
    kill -0 "$server" 2>/dev/null || { tail -n 30 "$work/server.log"; fail "the server ended by itself"; }
    [ $((SECONDS - began)) -lt "$READY_S" ] || { tail -n 30 "$work/server.log"; fail "not ready after $READY_S s"; }
    sleep 0.2
  done
  "$python" "$smoke" --port "$port" --grpc-port "$SERVING_GRPC_PORT" || fail "the smoke test failed"
  kill -TERM "$server"
  for _ in $(seq $((STOP_S * 5))); do kill -0 "$server" 2>/dev/null || break; sleep 0.2; done
  ! kill -0 "$server" 2>/dev/null || fail "still running $STOP_S s after SIGTERM"
  wait "$server" || status=$?
  server=
  [ "$status" = 0 ] || fail "exit status $status after SIGTERM"
}

say "pip install . into an empty environment"
"$PYTHON" -m venv "$work/installed"
"$work/installed/bin/pip" install --quiet --disable-pip-version-check "$work/source"
! "$work/installed/bin/python" -c 'import tensorflow' 2>/dev/null || fail "TensorFlow was installed"
echo "$(du -sm "$work/installed" | cut -f1) MB"
SERVING_HOME=$work/store-installed
serves "$work/installed/bin/python" "$work/installed/bin/keras-serving" serve

say "bentoml build, with what the lock says"
"$PYTHON" -m venv "$work/locked"
"$work/locked/bin/pip" install --quiet --disable-pip-version-check --require-hashes -r "$work/source/requirements/serve.txt"
(cd "$work/source" && "$work/locked/bin/bentoml" build --output tag)
bento=$(compgen -G "$BENTOML_HOME/bentos/keras-serving/*/src")
echo "$(du -sm "$bento" | cut -f1) MB"
SERVING_HOME=$work/store-bento
export PYTHONPATH=$bento
serves "$work/locked/bin/python" "$work/locked/bin/bentoml" serve keras-serving:latest --host 127.0.0.1
say "package-test passed"
