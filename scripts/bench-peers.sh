#!/usr/bin/env bash
# Our search beside what people use today: `make bench-peers`.
#
# LIKENESS_SIZES     people in the galleries                                  [100000 1000000]
# LIKENESS_PEERS     which peers, as peers.py names them; empty: none         [all]
# LIKENESS_GRAPHS    people in galleries of our graph beside our stages       [200000 1000000]
# LIKENESS_ALONE     people in galleries of our stages alone                  [10000000]
# LIKENESS_MINUTES   the longest that one peer, or our graph, may take: what it had no time for is said in the report [60]
# LIKENESS_PROBES    faces looked for in each gallery                         [2000]
# LIKENESS_ADD       1: keep what the results have of other runs              [0]
# LIKENESS_RESULTS   where the results go, without the ending                 [bench/results/search]
#
# The peers live in a virtual environment under the cache, the galleries beside it until the run is over.
set -euo pipefail
cd "$(dirname "$0")/.."

program=$1
cache=${LIKENESS_CACHE:?"run it by \`make bench-peers\`"}
sizes=${LIKENESS_SIZES-100000 1000000}
graphs=${LIKENESS_GRAPHS-200000 1000000}
alone=${LIKENESS_ALONE-10000000}
# Those that are exact first, then the graphs, the fastest to build first.
peers=${LIKENESS_PEERS-BinaryFlat RaBitQFastScan FlatIP BinaryHNSW UsearchB1 HNSWRaBitQ Hnswlib}
minutes=${LIKENESS_MINUTES:-60}
probes=${LIKENESS_PROBES:-2000}
results=${LIKENESS_RESULTS:-bench/results/search}
venv=$cache/bench-venv
rows=$(mktemp "${TMPDIR:-/tmp}/likeness-rows.XXXXXX")
folder=$cache/bench-gallery
trap 'rm -rf "$rows" "$folder"' EXIT

if ! cmp -s bench/peers/requirements.txt "$venv/installed.txt"; then
  echo "obtaining the peers into $venv"
  python3 -m venv --clear "$venv"
  "$venv/bin/pip" install --quiet --disable-pip-version-check --prefer-binary -r bench/peers/requirements.txt
  cp bench/peers/requirements.txt "$venv/installed.txt"
fi

cores=$(nproc)
threads=1
[ "$cores" = 1 ] || threads=1,$cores

# A process for each peer: one that takes too long is ended and said, and the next begins with all the memory.
peer() {
  local size=$1 name=$2 status=0
  timeout "$((60 * minutes))" "$venv/bin/python" bench/peers/peers.py "$folder" "$threads" "$name" || status=$?
  case $status in
    0) ;;
    124) printf '{"note": "%s among %s was given %s minutes, and had not finished.", "size": %s, "peer": "%s"}\n' \
      "$name" "$size" "$minutes" "$size" "$name" ;;
    *) echo "bench-peers: $name among $size failed with $status" >&2; return "$status" ;;
  esac
}

for size in $sizes; do
  echo "a gallery of $size people"
  "$program" measure "$size" "$probes" | tee -a "$rows"
  [ -n "$peers" ] || continue
  "$program" export "$folder" "$size" "$probes"
  for name in $peers; do
    peer "$size" "$name" | tee -a "$rows"
  done
  rm -rf "$folder"
done
for size in $graphs; do
  echo "a gallery of $size people, our graph beside our stages"
  "$program" graph "$size" "$probes" "$minutes" | tee -a "$rows"
done
for size in $alone; do
  echo "a gallery of $size people, our stages alone"
  "$program" measure "$size" "$probes" | tee -a "$rows"
done
# The report says what was really asked for.
command="make bench-peers"
for name in LIKENESS_PROBES LIKENESS_MINUTES LIKENESS_ALONE LIKENESS_GRAPHS LIKENESS_PEERS LIKENESS_SIZES; do
  [ -z "${!name+set}" ] || command="$name='${!name}' $command"
done
add=()
[ "${LIKENESS_ADD:-0}" = 0 ] || add=(--add)
"$venv/bin/python" bench/peers/report.py ${add[@]+"${add[@]}"} "$rows" "$results" "$command"
