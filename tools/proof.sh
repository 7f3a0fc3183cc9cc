#!/usr/bin/env bash
# Everything in full: the tests on real data, every gradient with planted errors, the fixtures, the demonstration for five seeds, the peer's task.
# usage: tools/proof.sh DATA_DIR [OUT_DIR]; leaves a dated record in docs/.
set -euo pipefail
cd "$(dirname "$0")/.."
data=${1:?usage: tools/proof.sh DATA_DIR [OUT_DIR]}
out=${2:-runs/proof}
record=docs/proof-$(date +%F).md
mkdir -p "$out"
export ULMFIT_DATA=$data
cargo build --release --locked
ulmfit=target/release/ulmfit
{
  echo "# Proof of $(date +%F)"
  echo "Commit $(git rev-parse --short HEAD)$(git diff --quiet HEAD || echo ' with local changes'). $($ulmfit info --json | tail -n 1)"
} > "$record"
step() { # step TITLE COMMAND...: its last line of output goes into the record
  local title=$1 start=$SECONDS
  shift
  echo "== $title"
  "$@" | tee "$out/last"
  printf '\n## %s\n`%s` (%s s)\n```\n%s\n```\n' "$title" "$*" "$((SECONDS - start))" "$(tail -n 20 "$out/last")" >> "$record"
}
step "Tests" cargo test --workspace --locked -q
step "Gradients, with planted errors" $ulmfit gradcheck --mutate --json
step "Fixtures" $ulmfit golden tests/golden --json
for seed in 1 2 3 4 5; do
  step "Demonstration, seed $seed" $ulmfit demo --seed "$seed" --out "$out/demo-$seed" --overwrite --quiet --json
done
step "WikiText-2 and TREC-6 with the peer's recipe" tools/peer/ours.sh "$data" "$out/peer"
echo "record: $record"
