#!/usr/bin/env bash
# Everything in full, part by part; leaves a dated record in docs/.
#   tests   cargo test, with the data sets checks every gradient, planted errors, the fixtures
#   cuda    every kernel on the simulated GPU: parity in three orders of blocks, fixtures,
#           gradients, training, graphs, counters, the PTX
#   sanitize  unsafe code under AddressSanitizer and Miri (tools/sanitize.sh; Miri needs nightly)
#   reliability  a death and a failure at every call of the file system, not at a slice of them
#   serve   throughput, times at half load, 10,000 malformed requests, 10,000 slow clients
#   tensorboard  event files, read by the package itself (tools/event_files.py; needs the network)
#   python  the wheel, in a fresh environment (python/test.sh)
#   demo    the demonstration, seeds 1 to 5
#   peer    WikiText-2 and TREC-6 with the peer's recipe (tools/peer/ours.sh)
#   ptb     what each regulariser is worth (hours)
#   imdb    Wikipedia, then IMDb (hours)
# usage: tools/proof.sh DATA_DIR OUT_DIR [PART..]   without parts: all of them; JOBS=N: processes or
#                                                   threads of the long parts, else all
set -euo pipefail
cd "$(dirname "$0")/.."
[ $# -ge 2 ] || { echo "usage: tools/proof.sh DATA_DIR OUT_DIR [tests|checks|cuda|sanitize|reliability|tensorboard|serve|python|demo|peer|ptb|imdb ..]" >&2; exit 2; }
data=$1 out=$2
shift 2
[ $# -gt 0 ] || set -- tests checks cuda sanitize reliability tensorboard serve python demo peer ptb imdb
record=docs/proof-$(date +%F).md
mkdir -p "$out"
export ULMFIT_DATA=$data
cargo build --release --locked
ulmfit=target/release/ulmfit
[ -e "$record" ] || echo "# Proof of $(date +%F)" > "$record"
commit="$(git rev-parse --short HEAD)$(git diff --quiet HEAD -- src kernels Cargo.toml Cargo.lock python tools tests || echo ' with local changes')"
machine=$($ulmfit info | sed -n 's/^\(processor\|instruction set\|threads\) *//p' | paste -sd ';' | sed 's/;/, /; s/;/, threads /')
step() { # step TITLE COMMAND...: what it prints last goes into the record
  local title=$1 start=$SECONDS
  shift
  echo "== $title"
  "$@" | tee "$out/last"
  printf '\n## %s\nCommit %s; %s; %s s.\n`%s`\n```\n%s\n```\n' "$title" "$commit" "$machine" "$((SECONDS - start))" \
    "$(echo "$*" | sed "s|$data|DATA|g; s|$out|OUT|g")" "$(tail -n 40 "$out/last")" >> "$record"
}
for part in "$@"; do
  case $part in
    tests) step "Tests" bash -c "cargo test --workspace --locked 2>&1 | grep -E '^test result|Running|skipped'" ;;
    checks)
      step "Gradients, with planted errors" $ulmfit gradcheck --mutate --json
      step "Fixtures" $ulmfit golden tests/golden tests/import/expected.safetensors --json ;;
    cuda)
      cargo build --release --locked -p cudasim
      tools/ptx/install.sh > /dev/null
      step "PTX: the same text, assembled, within its limits" cargo run --release --locked --quiet -p ptx -- --check
      step "The simulated driver: its tests" bash -c "cargo test --locked -p cudasim 2>&1 | grep -E '^test result|Running'"
      step "The simulated driver: million thread instructions a second" cargo run --release --locked --quiet -p cudasim --example speed
      for tests in parity parity_sm_70 training graphs counters; do
        step "On the simulated GPU: $tests" env ULMFIT_PARITY=full cargo test --locked --test gpu $tests:: -- --nocapture
      done
      step "The same with multiplications and additions fused at random, tensor cores that cut off, two readers a word" \
        env CUDASIM_CONTRACT=1 CUDASIM_MMA=truncate CUDASIM_READERS=2 cargo test --locked --test gpu parity:: -- --nocapture
      step "The same by the interpreter's form without AVX2" env CUDASIM_AVX2=off cargo test --locked --test gpu parity::
      for precision in f32 bf16; do
        step "Fixtures on the simulated GPU, $precision" $ulmfit golden tests/golden tests/import/expected.safetensors --device cudasim --precision $precision
        step "Gradients on the simulated GPU, $precision, with planted errors" $ulmfit gradcheck --mutate --device cudasim --precision $precision
      done ;;
    sanitize) step "Unsafe code under AddressSanitizer, for every instruction set, and under Miri" \
      bash -c "tools/sanitize.sh 2>&1 | grep -E '^(address|miri):|^test result|ERROR'" ;;
    reliability)
      step "A death and a failure at every call of the file system" \
        env ULMFIT_RELIABILITY=full cargo test --locked --test program reliability:: ;;
    tensorboard)
      python3 -m venv "$out/tensorboard"
      "$out/tensorboard/bin/pip" install --quiet --disable-pip-version-check tensorboard setuptools
      step "Event files, read by tensorboard" "$out/tensorboard/bin/python" tools/event_files.py $ulmfit ;;
    serve) step "The server: answers, throughput, malformed requests, slow clients" \
      python3 tools/serve.py $ulmfit "$data" "$out/serve" ;;
    python) step "The Python package: wheel, scikit-learn, types" python/test.sh ;;
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
