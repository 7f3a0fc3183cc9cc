#!/usr/bin/env bash
# The first day on a real GPU: everything that was only simulated so far, part by part. A part that fails is named and the next one goes on; the
# summary at the end has them all, and the exit status is 1 if any failed.
#   info         what the driver presents, and the LSTM plans for it
#   parity       the cuda tests against the CPU on this GPU (ULMFIT_REQUIRE_CUDA=1), with the kernels for 8.0 and for 7.0
#   golden       the f32 fixtures                      gradcheck    every operation against the CPU, with planted errors
#   determinism  the same training twice, the same bits
#   sanitizer    compute-sanitizer (memcheck, racecheck, synccheck) over the fixtures, where it is installed
#   speed        benchmarks, a training of the paper's model  peer         the same step by PyTorch with cuDNN, where it is installed ($PYTHON)
# usage: tools/gpu-day.sh [PART..]     without parts: all of them
# Results, with date, GPU, driver and commit: benches/results/gpu-DATE.md, and each part's output beside it.
# ULMFIT_GPU_DAY_DEVICE: cuda (default), cuda:N, or cudasim for a rehearsal of the script itself, in small, whose record goes to $ULMFIT_GPU_DAY_OUT
# or target/gpu-day. A rehearsal shows nothing about a GPU.
set -uo pipefail
cd "$(dirname "$0")/.."
device=${ULMFIT_GPU_DAY_DEVICE:-cuda}
case $device in
  cuda | cuda:*) rehearsal=; out=${ULMFIT_GPU_DAY_OUT:-benches/results} ;;
  cudasim) rehearsal=yes; out=${ULMFIT_GPU_DAY_OUT:-target/gpu-day} ;;
  *) echo "ULMFIT_GPU_DAY_DEVICE=$device: use cuda, cuda:N or cudasim" >&2; exit 2 ;;
esac
all="info parity golden gradcheck determinism sanitizer speed peer"
[ $# -gt 0 ] || set -- $all
for part in "$@"; do
  case " $all " in *" $part "*) ;; *) echo "unknown part '$part'; there are $all" >&2; exit 2 ;; esac
done

record=$out/gpu-$(date -u +%F).md logs=$out/gpu-$(date -u +%F)
mkdir -p "$logs" || exit 1
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
ulmfit=${ULMFIT:-target/release/ulmfit}
if [ -z "${ULMFIT:-}" ]; then
  cargo build --release --locked -p ulmfit ${rehearsal:+-p cudasim} || { echo "FAILED: the program does not build" >&2; exit 1; }
fi
"$ulmfit" info --device "$device" > "$logs/device.txt" || { echo "FAILED: no usable GPU for --device $device" >&2; exit 1; }
gpu=$(sed -n 's/^GPU [0-9]* *//p' "$logs/device.txt" | paste -sd ';')
driver=$(nvidia-smi --query-gpu=driver_version --format=csv,noheader 2>/dev/null | head -1 || true)
commit=$(git rev-parse --short HEAD)$(git diff --quiet HEAD || echo " with local changes")
{
  echo "# $([ -n "$rehearsal" ] && echo 'Rehearsal on the simulator, no GPU' || echo 'On a GPU'), $(date -u '+%F %H:%M') UTC"
  echo
  echo "$gpu; driver ${driver:-unknown}, CUDA $(sed -n 's/^CUDA driver *//p' "$logs/device.txt"); commit $commit"
} > "$record"

summary=() failed=0
note() { # note PART OUTCOME
  summary+=("$(printf '%-12s %s' "$1" "$2")")
  echo "== $1: $2"
}
# run PART TITLE COMMAND..: its output goes to a log, the end of it into the record
run() {
  local part=$1 title=$2 start=$SECONDS status outcome
  shift 2
  local log=$logs/$part-$((${#summary[@]} + 1)).txt
  echo "== $part: $title"
  "$@" > "$log" 2>&1
  status=$?
  outcome="ok, $((SECONDS - start)) s"
  if [ $status -ne 0 ]; then
    failed=$((failed + 1)) outcome="FAILED (status $status), $((SECONDS - start)) s; see $log"
    tail -n 15 "$log" >&2
  fi
  printf '\n## %s: %s\n%s\n```\n%s\n```\n' "$part" "$title" "$outcome" "$(tail -n 40 "$log")" >> "$record"
  note "$part" "$title: $outcome"
  return $status
}
skip() { # skip PART WHY
  printf '\n## %s\nskipped: %s\n' "$1" "$2" >> "$record"
  note "$1" "skipped: $2"
}
corpus() { # corpus WORDS LINES: a text of so many different words
  awk -v words="$1" -v lines="$2" 'BEGIN { srand(1); for (i = 0; i < lines; i++) { s = ""; for (j = 0; j < 24; j++)
    s = s " w" int(words * rand() * rand()); print s } }'
}

part_info() { run info "what the driver presents" "$ulmfit" info --device "$device"; }

part_parity() {
  if [ -n "$rehearsal" ]; then
    run parity "one test, simulated" cargo test --locked --test gpu parity::masks_are_those_of_the_cpu
  else
    local name
    for name in parity parity_sm_70 training graphs commands; do
      run parity "$name" env ULMFIT_REQUIRE_CUDA=1 cargo test --locked --test gpu "$name::" -- --nocapture
    done
  fi
}

part_golden() { run golden "f32 fixtures" "$ulmfit" golden tests/golden --device "$device"; }

part_gradcheck() {
  run gradcheck "operations against the CPU, errors planted" "$ulmfit" gradcheck --mutate --device "$device" ${rehearsal:+--op linear}
}

train() { # train OUT: a short training whose model is compared
  local steps=200
  [ -z "$rehearsal" ] || steps=3
  "$ulmfit" pretrain --corpus "$work/corpus.txt" --out "$1" --device "$device" --recipe tiny --max-steps "$steps" --quiet
}
part_determinism() {
  if [ -n "$rehearsal" ]; then corpus 100 40; else corpus 2000 2000; fi > "$work/corpus.txt"
  twice() {
    train "$work/first" && train "$work/second" && sha256sum "$work"/first/model.safetensors "$work"/second/model.safetensors &&
      cmp "$work/first/model.safetensors" "$work/second/model.safetensors"
  }
  run determinism "the same training twice, the same bits" twice
}

part_sanitizer() {
  command -v compute-sanitizer > /dev/null || { skip sanitizer "compute-sanitizer is not installed"; return; }
  [ -z "$rehearsal" ] || { skip sanitizer "it watches a real driver alone"; return; }
  local tool
  for tool in memcheck racecheck synccheck; do
    run sanitizer "$tool" compute-sanitizer --tool "$tool" --error-exitcode 9 "$ulmfit" golden tests/golden --device "$device"
  done
}

part_speed() {
  if [ -n "$rehearsal" ]; then
    corpus 300 200 > "$work/corpus.txt"
    run speed "a small step, counted" "$ulmfit" profile pretrain --corpus "$work/corpus.txt" --device "$device" --recipe tiny
    run speed "benchmarks, small, counted" "$ulmfit" bench --reduced --quick --device "$device" --json
    return
  fi
  local suite
  for suite in lstm step ops predict; do
    run speed "bench --suite $suite" "$ulmfit" bench --suite "$suite" --device "$device" --json
  done
  # the paper's sizes: vocabulary 30,000, 400-1150-1150-400, batches of 64, windows of 70
  corpus 60000 60000 > "$work/corpus.txt"
  local sizes="--vocab-size 30000 --emb-size 400 --hidden-size 1150 --layers 3 --batch-size 64 --bptt 70 --set pretrain.windows=fixed"
  run speed "60 updates of the paper's language model (tokens_per_second)" "$ulmfit" pretrain --corpus "$work/corpus.txt" \
    --out "$work/speed" --device "$device" $sizes --min-freq 1 --max-steps 60 --json --quiet
}

part_peer() {
  local python=${PYTHON:-python3}
  "$python" -c 'import torch' 2> /dev/null || { skip peer "$python has no PyTorch"; return; }
  if [ -n "$rehearsal" ] || ! "$python" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())'; then
    run peer "PyTorch, small, on the processor" "$python" tools/peer/step_cuda.py --device cpu
  else
    run peer "PyTorch with cuDNN: the paper's language model" "$python" tools/peer/step_cuda.py
  fi
}

for part in "$@"; do "part_$part"; done
{
  printf '\n## Summary\n```\n'
  printf '%s\n' "${summary[@]}"
  printf '```\n'
} >> "$record"
printf '\nsummary%s\n' "${rehearsal:+ (a rehearsal: nothing about a GPU)}"
printf '  %s\n' "${summary[@]}"
echo "record: $record"
[ "$failed" -eq 0 ] || { echo "FAILED: $failed part(s)" >&2; exit 1; }
