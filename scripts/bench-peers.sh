#!/usr/bin/env bash
# Our search beside what people use today: `make bench-peers`.
#
# LIKENESS_SIZES     people in the galleries              [100000 1000000]
# LIKENESS_ALONE     people in galleries of ours alone    [10000000]
# LIKENESS_PEERS     which peers, as peers.py names them  [all that memory and patience allow for the size]
#
# The peers live in a virtual environment under the cache, the galleries beside it until the run is over.
set -euo pipefail
cd "$(dirname "$0")/.."

program=$1
cache=${LIKENESS_CACHE:?"run it by \`make bench-peers\`"}
sizes=${LIKENESS_SIZES:-100000 1000000}
probes=2000
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

for size in $sizes; do
  # A graph over floats takes a quarter of an hour to build for a million.
  peers="BinaryFlat RaBitQFastScan BinaryHNSW FlatIP"
  [ "$size" -gt 200000 ] || peers="$peers HNSWRaBitQ UsearchB1 Hnswlib"
  echo "a gallery of $size people"
  "$program" export "$folder" "$size" "$probes"
  "$program" measure "$size" "$probes" | tee -a "$rows"
  "$venv/bin/python" bench/peers/peers.py "$folder" "$threads" ${LIKENESS_PEERS:-$peers} | tee -a "$rows"
  rm -rf "$folder"
done
for size in ${LIKENESS_ALONE-10000000}; do
  echo "a gallery of $size people, ours alone"
  "$program" measure "$size" "$probes" | tee -a "$rows"
done
# The report says what was really asked for.
command="make bench-peers"
for name in LIKENESS_PEERS LIKENESS_ALONE LIKENESS_SIZES; do
  [ -z "${!name+set}" ] || command="$name='${!name}' $command"
done
"$venv/bin/python" bench/peers/report.py "$rows" bench/results/search "$command"
