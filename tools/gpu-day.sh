#!/usr/bin/env bash
# The first fifteen minutes on a real GPU, in one run of at most eight: everything that was only
# simulated so far, from an archive that tools/gpu-pack.sh has made, on a machine with a driver,
# without Rust and without a network. Every part has a limit, a part that fails or is missing is
# named and the next one goes on, and after every part record and logs are complete on disk. The
# exit status is 1 if any part failed.
#   info         what the driver presents, and the LSTM plans for it
#   graphs       cooperative launches captured as graphs; if they fail, what works instead is taken
#                for all that follows
#   correct      the cuda tests (both sets of kernels), golden and gradcheck in f32 and bf16, all at
#                once
#   train        the paper's model, 60 updates: tokens a second; twice with graphs and once without,
#                the same bits, in f32 and bf16
#   bench        the recurrence and the step, verified and timed
#   peer         the same step by PyTorch with cuDNN: f32, TF32, bf16, weight drop (needs $PYTHON
#                with torch, else python3)
#   counters     time and bytes of a step's kernels                                   (needs ncu)
#   sanitizer    memcheck, racecheck, synccheck on the recurrence, memcheck on the rest (needs
#                compute-sanitizer)
#   with         what was packed besides, if a script *.sh is among it (tools/gpu-pack.sh --with)
# usage: tools/gpu-day.sh [--pack ARCHIVE] [PART..]     without parts: all of them, in this order
#   ARCHIVE: .gpu.tar.xz beside tools/, unless this script lies in an unpacked one.
# Results: $ULMFIT_GPU_DAY_OUT, else $OUT, else target/gpu-day: gpu-DATE.md and gpu-DATE-logs.tar.gz
# (their place in the repository is benches/results). ULMFIT_GPU_DAY_DEVICE: cuda (default), cuda:N,
# or cudasim for a rehearsal of the script in small ($ULMFIT_CUDASIM names the simulated driver),
# which shows nothing about a GPU. ULMFIT_GPU_DAY_SECONDS: for all parts together, 480 unless said.
set -uo pipefail
total=${ULMFIT_GPU_DAY_SECONDS:-480}
here=$(cd "$(dirname "$0")/.." && pwd)
archive=$here/.gpu.tar.xz
if [ "${1:-}" = --pack ]; then
  [ $# -ge 2 ] || { echo "--pack needs an archive" >&2; exit 2; }
  archive=$2
  shift 2
fi
device=${ULMFIT_GPU_DAY_DEVICE:-cuda}
case $device in
  cuda | cuda:*) rehearsal= ;;
  cudasim) rehearsal=yes ;;
  *) echo "ULMFIT_GPU_DAY_DEVICE=$device: use cuda, cuda:N or cudasim" >&2; exit 2 ;;
esac
all="info graphs correct train bench peer counters sanitizer with"
[ $# -gt 0 ] || set -- $all
for part in "$@"; do
  case " $all " in *" $part "*) ;; *) echo "unknown part '$part'; there are $all" >&2; exit 2 ;; esac
done

day=$(date -u +%F)
out=${ULMFIT_GPU_DAY_OUT:-${OUT:-$here/target/gpu-day}}
record=$out/gpu-$day.md
mkdir -p "$out" || exit 1
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
logs=$work/gpu-$day
mkdir "$logs"
python=${PYTHON:-python3}

# the pack
pack=$here
if [ ! -x "$pack/bin/ulmfit" ]; then
  [ -e "$archive" ] || { echo "$archive is not there: make it with tools/gpu-pack.sh" >&2; exit 1; }
  mkdir "$work/unpacked"
  tar -xJf "$archive" -C "$work/unpacked" 2> /dev/null ||
    "$python" -c 'import sys, tarfile; tarfile.open(sys.argv[1]).extractall(sys.argv[2])' "$archive" "$work/unpacked" ||
    { echo "$archive cannot be unpacked" >&2; exit 1; }
  pack=$work/unpacked/.gpu
fi
ulmfit=$pack/bin/ulmfit tests=$pack/bin/gpu
# ULMFIT_TEST_ROOT: where tests find what lies in the repository; CARGO_BIN_EXE_ulmfit: where they
# find the program
export ULMFIT_TEST_ROOT=$pack CARGO_BIN_EXE_ulmfit=$ulmfit CUDA_CACHE_PATH=$work/cache RUST_BACKTRACE=1 PYTHONUNBUFFERED=1
if [ -n "$rehearsal" ]; then
  unset ULMFIT_REQUIRE_CUDA
else
  export ULMFIT_REQUIRE_CUDA=1
  unset ULMFIT_CUDASIM
fi
gpu=$(timeout -k 5 20 nvidia-smi --query-gpu=name,driver_version --format=csv,noheader 2> /dev/null | head -1)
{
  echo "# $([ -n "$rehearsal" ] && echo 'Rehearsal on the simulator, no GPU' || echo 'On a GPU'), $(date -u '+%F %H:%M') UTC"
  echo
  echo "${gpu:-no answer of nvidia-smi}; commit $(cat "$pack/commit" 2> /dev/null || echo unknown)"
} > "$record"

summary=() pending=() failed=0 count=0
note() { # note PART OUTCOME
  summary+=("$(printf '%-10s %s' "$1" "$2")")
  echo "== $1: $2 (at $SECONDS s)"
}
save() { # record and logs so far, whole files at any moment
  cp "$record" "$logs/record.md"
  tar -czf "$work/logs.tar.gz" -C "$work" "gpu-$day" 2> /dev/null ||
    "$python" -c 'import sys, tarfile; tarfile.open(sys.argv[1], "w:gz").add(sys.argv[2], sys.argv[3])' "$work/logs.tar.gz" "$logs" "gpu-$day"
  mv "$work/logs.tar.gz" "$out/gpu-$day-logs.tar.gz"
}
# begin PART TITLE SECONDS COMMAND..: in the background, its output in a log
begin() {
  local part=$1 title=$2 limit=$3 left=$((total - SECONDS))
  shift 3
  [ "$limit" -le "$left" ] || limit=$left
  if [ "$limit" -lt 5 ]; then
    skip "$part" "$title: no time is left"
    return
  fi
  count=$((count + 1))
  local log
  log=$logs/$(printf '%02d' $count)-$part.txt
  (
    start=$SECONDS
    timeout -k 5 "$limit" "$@" > "$log" 2>&1
    echo "$? $((SECONDS - start))" > "$log.status"
  ) &
  pending+=("$part" "$title" "$log" "$limit")
}
# finish: waits for all that was begun; fails if any of it did
finish() {
  wait
  local worst=0 status seconds outcome
  set -- ${pending[@]+"${pending[@]}"}
  pending=()
  while [ $# -ge 4 ]; do
    read -r status seconds < "$3.status" || { status=1 seconds=?; }
    rm -f "$3.status"
    outcome="ok, $seconds s"
    if [ "$status" -ne 0 ]; then
      worst=1 failed=$((failed + 1))
      case $status in
        124 | 137) outcome="FAILED: not done in $4 s" ;;
        *) outcome="FAILED (status $status), $seconds s" ;;
      esac
      tail -n 15 "$3" >&2
    fi
    printf '\n## %s: %s\n%s; %s\n```\n%s\n```\n' "$1" "$2" "$outcome" "$(basename "$3")" "$(tail -n 40 "$3" | cut -c1-400)" >> "$record"
    note "$1" "$2: $outcome"
    shift 4
  done
  save
  return $worst
}
run() { # run PART TITLE SECONDS COMMAND..: alone
  begin "$@"
  finish
}
skip() { # skip PART WHY
  printf '\n## %s\nskipped: %s\n' "$1" "$2" >> "$record"
  note "$1" "skipped: $2"
}
corpus() { # corpus WORDS LINES: a text of so many different words
  awk -v words="$1" -v lines="$2" 'BEGIN { srand(1); for (i = 0; i < lines; i++) { s = ""; for (j = 0; j < 24; j++)
    s = s " w" int(words * rand() * rand()); print s } }'
}
part_info() {
  # shellcheck disable=SC2016
  run info "the machine" 30 bash -c 'uname -a; nproc; nvidia-smi -L; nvidia-smi; ldconfig -p | grep -i libcuda; nvcc --version | tail -n 2
    "$1" -c "import torch; print(torch.__version__, torch.version.cuda)"; command -v ncu compute-sanitizer
    echo "LD_LIBRARY_PATH=${LD_LIBRARY_PATH:-}"; shift; for f; do echo "$f"; ldd "$f" | grep -v "=> /"; done; true' \
    bash "$python" "$pack"/bin/*
  local precision
  for precision in f32 bf16; do
    run info "plans, $precision" 30 "$ulmfit" info --device "$device" --precision "$precision"
  done
}

# a short training, to see what works
tiny() { # tiny NAME VARIABLE=VALUE..
  local name=$1
  shift
  [ -e "$work/tiny.txt" ] || corpus 100 60 > "$work/tiny.txt"
  run graphs "a small training, $*" 30 env "$@" "$ulmfit" pretrain --corpus "$work/tiny.txt" --out "$work/$name" --device "$device" --recipe tiny \
    --max-steps 6 --quiet
}
part_graphs() {
  local name=graphs_give_the_bits_of_single_launches
  [ -z "$rehearsal" ] || name=replays_draw_new_masks
  run graphs "cooperative launches in graphs" 40 "$tests" --exact "graphs::$name" --nocapture && return
  if tiny without_graphs ULMFIT_CUDA_GRAPHS=off; then
    export ULMFIT_CUDA_GRAPHS=off
    note graphs "ULMFIT_CUDA_GRAPHS=off from here on"
  elif tiny steps ULMFIT_CUDA_GRAPHS=off ULMFIT_LSTM_PLAN=step; then
    export ULMFIT_CUDA_GRAPHS=off ULMFIT_LSTM_PLAN=step
    note graphs "ULMFIT_CUDA_GRAPHS=off ULMFIT_LSTM_PLAN=step from here on"
  fi
}

part_correct() {
  local name precision
  # a process each: its tests take turns on the GPU. What graphs and benchmarks do is asked
  # elsewhere.
  if [ -n "$rehearsal" ]; then
    for name in parity::masks_are_those_of_the_cpu parity_sm_70::masks_are_those_of_the_cpu training::checks graphs::memory_outlives_the_work_for_it; do
      begin correct "$name" 110 "$tests" --exact "$name" --nocapture
    done
  else
    for name in every_case lstm_plans the_paper_s_grid the_grid_barrier_repeats; do
      begin correct "parity::$name" 110 "$tests" --exact "parity::$name" --nocapture
    done
    begin correct "parity, the rest" 110 "$tests" parity:: --skip parity::every_case --skip parity::lstm_plans --skip parity::the_ --nocapture
    begin correct "parity, kernels for 7.0" 110 "$tests" parity_sm_70:: --nocapture
    begin correct training 110 "$tests" training:: --skip training::benchmarks --nocapture
    begin correct graphs 110 "$tests" graphs:: --skip graphs_give_the_bits_of_single_launches --nocapture
    begin correct commands 110 "$tests" commands:: --nocapture
  fi
  for precision in f32 bf16; do
    begin correct "fixtures, $precision" 110 "$ulmfit" golden "$pack/tests/golden" "$pack/tests/import/expected.safetensors" --device "$device" --precision "$precision"
    begin correct "gradients, errors planted, $precision" 110 \
      "$ulmfit" gradcheck --mutate --device "$device" --precision "$precision" ${rehearsal:+--op linear}
  done
  finish
}

part_train() {
  # the paper's sizes: vocabulary 30,000, 400-1150-1150-400, batches of 64, windows of 70
  local sizes="--vocab-size 30000 --emb-size 400 --hidden-size 1150 --layers 3 --batch-size 64 --bptt 70 --min-freq 1 --set pretrain.windows=fixed" steps=60
  [ -z "$rehearsal" ] || sizes="--recipe tiny" steps=3
  if [ -n "$rehearsal" ]; then corpus 100 60; else corpus 60000 20000; fi > "$work/corpus.txt"
  local precision again graphs place
  for precision in f32 bf16; do
    for again in first second without; do
      graphs=${ULMFIT_CUDA_GRAPHS:-on}
      [ $again != without ] || graphs=off
      place=$work/$precision-$again
      # shellcheck disable=SC2086
      run train "$steps updates, $precision, graphs $graphs, $again" 40 env ULMFIT_CUDA_GRAPHS=$graphs \
        "$ulmfit" pretrain --corpus "$work/corpus.txt" --out "$place" --device "$device" --precision "$precision" $sizes --max-steps $steps --json --quiet
    done
    # shellcheck disable=SC2016
    run train "the same bits, $precision" 20 bash -c 'sha256sum "$@" && for f; do cmp "$1" "$f" || exit 1; done' \
      bash "$work/$precision"-{first,second,without}/model.safetensors
    rm -rf "$work/$precision"-*
  done
}

part_bench() {
  local small=
  [ -z "$rehearsal" ] || small="--reduced --quick"
  # shellcheck disable=SC2086
  run bench "lstm" 70 "$ulmfit" bench --suite lstm --device "$device" --json ${small:---quick}
  # shellcheck disable=SC2086
  run bench "step" 60 "$ulmfit" bench --suite step --device "$device" --json $small
}

part_peer() {
  timeout -k 5 60 "$python" -c 'import torch' 2> /dev/null || { skip peer "$python has no PyTorch"; return; }
  local where=cuda
  [ -z "$rehearsal" ] || where=cpu
  run peer "PyTorch with cuDNN" 60 "$python" "$pack/tools/peer/step_cuda.py" --device $where
}

part_counters() {
  command -v ncu > /dev/null || { skip counters "ncu is not installed"; return; }
  [ -z "$rehearsal" ] || { skip counters "ncu counts a real GPU alone"; return; }
  [ -e "$work/corpus.txt" ] || corpus 60000 20000 > "$work/corpus.txt"
  run counters "the third and fourth update in bf16, kernel by kernel" 60 env ULMFIT_CUDA_GRAPHS=off \
    ncu --clock-control none --metrics gpu__time_duration.sum,lts__t_bytes.sum --launch-skip 160 -c 100 --csv \
    "$ulmfit" pretrain --corpus "$work/corpus.txt" --out "$work/counted" --device "$device" --precision bf16 --vocab-size 30000 --emb-size 400 \
    --hidden-size 1150 --layers 3 --batch-size 64 --bptt 70 --min-freq 1 --set pretrain.windows=fixed --max-steps 4 --quiet
}

part_sanitizer() {
  command -v compute-sanitizer > /dev/null || { skip sanitizer "compute-sanitizer is not installed"; return; }
  [ -z "$rehearsal" ] || { skip sanitizer "it watches a real driver alone"; return; }
  local tool
  for tool in memcheck racecheck synccheck; do
    begin sanitizer "$tool on the recurrence" 120 compute-sanitizer --tool "$tool" --error-exitcode 9 --kernel-name kns=lstm \
      "$tests" --exact parity::lstm_plans --nocapture
  done
  begin sanitizer "memcheck on every case" 120 compute-sanitizer --tool memcheck --error-exitcode 9 "$tests" --exact parity::every_case --nocapture
  finish
}

part_with() {
  local script found=
  export ULMFIT=$ulmfit ULMFIT_WITH=$pack/with ULMFIT_DEVICE=$device ULMFIT_OUT=$out
  for script in "$pack"/with/*.sh; do
    [ -e "$script" ] || continue
    found=yes
    run with "$(basename "$script")" "$total" bash "$script"
  done
  [ -n "$found" ] || skip with "no script was packed"
}

for part in "$@"; do "part_$part"; done
{
  printf '\n## Summary\n```\n'
  printf '%s\n' "${summary[@]}"
  printf '```\n'
} >> "$record"
save
printf '\nsummary%s\n' "${rehearsal:+ (a rehearsal: nothing about a GPU)}"
printf '  %s\n' "${summary[@]}"
echo "record: $record, after $SECONDS s"
[ "$failed" -eq 0 ] || { echo "FAILED: $failed part(s)" >&2; exit 1; }
