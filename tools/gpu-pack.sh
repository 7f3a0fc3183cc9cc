#!/usr/bin/env bash
# Packs what tools/gpu-day.sh needs on a machine with a GPU but without Rust and without a network:
# the program and the tests, stripped, the fixtures, the scripts, into .gpu.tar.xz (ignored), at
# most 50 MiB. The machine there must have glibc as new as the one here.
# usage: tools/gpu-pack.sh [--with FILE..]
# FILE: whatever else is to go along, into with/. A script *.sh among it runs as the part `with`. It
# finds the program in $ULMFIT, the files in $ULMFIT_WITH, the device in $ULMFIT_DEVICE and the
# place for results in $ULMFIT_OUT
set -euo pipefail
cd "$(dirname "$0")/.."
most=$((50 << 20))
with=()
case ${1:-} in
  '') ;;
  --with) shift; with=("$@"); [ $# -gt 0 ] || { echo "--with needs a file" >&2; exit 2; } ;;
  *) echo "usage: tools/gpu-pack.sh [--with FILE..]" >&2; exit 2 ;;
esac
for file in ${with[@]+"${with[@]}"}; do
  [ -f "$file" ] || { echo "$file is not there" >&2; exit 2; }
done

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
pack=$work/.gpu
mkdir -p "$pack"/{bin,tests,tools/peer,with}
cargo build --release --locked -p ulmfit
executable=$(cargo test --release --locked --no-run --test gpu --message-format=json | python3 -c '
import json, sys
for message in map(json.loads, sys.stdin):
    if message.get("executable") and message["target"]["name"] == "gpu":
        print(message["executable"])')
[ -x "$executable" ] || { echo "cargo names no executable of the tests 'gpu'" >&2; exit 1; }
strip -o "$pack/bin/ulmfit" target/release/ulmfit
strip -o "$pack/bin/gpu" "$executable"
cp -r tests/golden tests/import "$pack/tests/"
cp tools/gpu-day.sh "$pack/tools/"
cp tools/peer/step_cuda.py "$pack/tools/peer/"
[ ${#with[@]} -eq 0 ] || cp "${with[@]}" "$pack/with/"
echo "$(git rev-parse --short HEAD)$(git diff --quiet HEAD || echo ' with local changes')" > "$pack/commit"
tar -cJf .gpu.tar.xz -C "$work" .gpu
size=$(stat -c %s .gpu.tar.xz)
echo ".gpu.tar.xz: $size bytes"
(cd "$pack" && du -b bin/* with/* 2> /dev/null || true)
[ "$size" -le "$most" ] || { echo "$size bytes are more than the $most that may be carried" >&2; exit 1; }
