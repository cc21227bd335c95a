#!/usr/bin/env bash
# Runs the client in Python against a server of its own: fresh keys, fresh data, a free port.
#   scripts/test-python-client.sh [PROGRAM]      the `likeness` to test; the build's unless given
# Needs the assets that `likeness models fetch` obtains. Packages are installed once, into the cache.
set -euo pipefail
cd "$(dirname "$0")/.."

cache=${LIKENESS_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/likeness}
likeness=${1:-${CARGO_TARGET_DIR:-$cache/target}/release/likeness}
assets=${LIKENESS_ASSETS:-$cache/assets}
requirements=clients/python/requirements.txt

# Named by Python, machine and what is pinned, so that neither another Python nor another pin meets old packages.
tag=$(python3 -c 'import hashlib, platform, sys
pins = hashlib.sha256(open(sys.argv[1], "rb").read()).hexdigest()
print(f"{sys.version_info.major}.{sys.version_info.minor}-{platform.machine()}-{pins[:16]}")' "$requirements")
packages=$cache/python-$tag

work=$(mktemp -d)
server=
cleanup() {
  # Ours alone, by its number; with a TERM it had its time.
  [ -z "$server" ] || kill -KILL "$server" 2>/dev/null || true
  rm -rf "$work" "$packages.$$"
}
trap cleanup EXIT
fail() {
  echo "the client in Python: $1" >&2
  if [ -s "$work/server.log" ]; then
    echo "the server's log ends with:" >&2
    tail -n 20 "$work/server.log" >&2
  fi
  exit 1
}

[ -x "$likeness" ] || fail "$likeness is missing; build it first"

if [ ! -d "$packages" ]; then
  echo "installing the packages of $requirements"
  mkdir -p "$cache"
  # As a variable: a pip too old to know this setting ignores it.
  PIP_ROOT_USER_ACTION=ignore python3 -m pip install --quiet --disable-pip-version-check --require-hashes \
    --only-binary=:all: --target "$packages.$$" --requirement "$requirements" \
    || fail "pip could not install $requirements for $(python3 --version)"
  # In place only when whole: a run that was interrupted leaves nothing that looks finished. Another run may
  # have been quicker; its packages are the same.
  mv -T "$packages.$$" "$packages" 2>/dev/null || [ -d "$packages" ]
fi

"$likeness" key init --keys "$work/keys" --data "$work/data" >/dev/null
"$likeness" api-key create --keys "$work/keys" --data "$work/data" --all-scopes >"$work/api-key"
mkfifo "$work/out"
"$likeness" serve --listen 127.0.0.1:0 --keys "$work/keys" --data "$work/data" --models "$assets/models" \
  --runtime "$assets/runtime/libonnxruntime.so" >"$work/out" 2>"$work/server.log" &
server=$!
# The server says where it listens once it serves; if it ends before, the pipe ends.
read -r -t 60 said <"$work/out" || fail "the server did not start"
address=${said#serving on http://}
[ "$address" != "$said" ] || fail "expected 'serving on http://...', the server said '$said'"

PYTHONPATH=$packages python3 clients/python/example.py --server "$address" --api-key-file "$work/api-key" --photographs "$assets/photographs" \
  || fail "it failed against $("$likeness" --version)"

kill -TERM "$server"
code=0
wait "$server" || code=$?
server=
[ "$code" = 0 ] || fail "after SIGTERM the server ended with exit code $code instead of 0"
echo "the client in Python: passed with $(python3 --version), $("$likeness" --version)"
