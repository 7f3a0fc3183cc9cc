#!/usr/bin/env bash
# Everything in full, part by part; leaves a dated record in docs/.
#   tests   cargo test, with the data sets            checks  every gradient, planted errors, the fixtures
#   demo    the demonstration, seeds 1 to 5           peer    WikiText-2 and TREC-6 with the peer's recipe (tools/peer/ours.sh)
#   ptb     what each regulariser is worth (hours)    imdb    Wikipedia, then IMDb (hours)
# usage: tools/proof.sh DATA_DIR OUT_DIR [PART..]   without parts: all of them; JOBS=N: processes or threads of the long parts, else all
set -euo pipefail
cd "$(dirname "$0")/.."
[ $# -ge 2 ] || { echo "usage: tools/proof.sh DATA_DIR OUT_DIR [tests|checks|demo|peer|ptb|imdb ..]" >&2; exit 2; }
data=$1 out=$2
shift 2
[ $# -gt 0 ] || set -- tests checks demo peer ptb imdb
record=docs/proof-$(date +%F).md
mkdir -p "$out"
export ULMFIT_DATA=$data
cargo build --release --locked
ulmfit=target/release/ulmfit
[ -e "$record" ] || echo "# Proof of $(date +%F)" > "$record"
commit="$(git rev-parse --short HEAD)$(git diff --quiet HEAD -- src Cargo.toml Cargo.lock tools tests || echo ' with local changes')"
machine=$($ulmfit info | sed -n 's/^\(processor\|instruction set\|threads\) *//p' | paste -sd ';' | sed 's/;/, /; s/;/, threads /')
step() { # step TITLE COMMAND...: what it prints last goes into the record
  local title=$1 start=$SECONDS
  shift
  echo "== $title"
  "$@" | tee "$out/last"
  printf '\n## %s\nCommit %s; %s; %s s.\n`%s`\n```\n%s\n```\n' "$title" "$commit" "$machine" "$((SECONDS - start))" \
    "$(echo "$*" | sed "s|$data|DATA|g; s|$out|OUT|g")" "$(tail -n 30 "$out/last")" >> "$record"
}
for part in "$@"; do
  case $part in
    tests) step "Tests" bash -c "cargo test --workspace --locked 2>&1 | grep -E '^test result|Running|skipped'" ;;
    checks)
      step "Gradients, with planted errors" $ulmfit gradcheck --mutate --json
      step "Fixtures" $ulmfit golden tests/golden --json ;;
    demo) for seed in 1 2 3 4 5; do
      step "Demonstration, seed $seed" $ulmfit demo --seed "$seed" --out "$out/demo-$seed" --overwrite --quiet --json
    done ;;
    peer) step "WikiText-2 and TREC-6 with the peer's recipe" tools/peer/ours.sh "$data" "$out/peer" ;;
    ptb) step "Regularisers on Penn Treebank" tools/ptb.sh "$data" "$out/ptb" tenth ;;
    imdb) step "Wikipedia, then IMDb" tools/imdb.sh "$data" "$out/imdb" "${JOBS:-$(nproc)}" ;;
    *) echo "unknown part '$part'" >&2; exit 2 ;;
  esac
done
echo "record: $record"
