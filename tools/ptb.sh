#!/usr/bin/env bash
# What the regularisers of AWD-LSTM are worth on Penn Treebank, recipe `awd` at a reduced size,
# three seeds each:
#   tenth   the first tenth of the training text, 20 epochs, where a model without regularisation
#           over-fits: each regulariser alone, and all
#   whole   the whole text, 4 epochs: all regularisers, and all but one
# Prints one line a setting: perplexities (mean over the seeds, and the spread) of the last epoch on
# the training text and on the validation text, both without dropout, and the lowest validation
# perplexity of any epoch.
# usage: tools/ptb.sh DATA_DIR OUT_DIR [PART..]   (the binary: cargo build --release; zstd is
#                                                 needed)
set -euo pipefail
data=$1/ptb out=$2
shift 2
parts=("${@:-tenth}")
export ulmfit=${ULMFIT:-target/release/ulmfit}
mkdir -p "$out"
zstd -qdcf "$data/ptb.train.txt.zst" > "$out/whole.txt"
head -n 4207 "$out/whole.txt" > "$out/tenth.txt"

set_all() { for pair in "$@"; do printf -- '--set pretrain.%s ' "$pair"; done; }
# §1.2: awd-lstm-lm's rates for this corpus
rates=$(set_all drop_input=0.4 drop_hidden=0.25)
no_drop=$(set_all drop_input=0 drop_hidden=0 drop_output=0)
no_weight=$(set_all drop_weight=0) no_embedding=$(set_all drop_embedding=0) no_ar=$(set_all alpha=0 beta=0)
no_variable=$(set_all windows=fixed lr_rescale=off)
settings() { # settings PART: one line each, name and flags
  case $1 in
    tenth)
      echo "none|$no_drop$no_weight$no_embedding$no_ar$no_variable"
      echo "only variable length|$no_drop$no_weight$no_embedding$no_ar"
      echo "only AR and TAR|$no_drop$no_weight$no_embedding$no_variable"
      echo "only embedding dropout|$no_drop$no_weight$no_ar$no_variable"
      echo "only weight drop|$no_drop$no_embedding$no_ar$no_variable"
      echo "all|$rates" ;;
    whole)
      echo "all|$rates"
      echo "all but variable length|$rates$no_variable"
      echo "all but AR and TAR|$rates$no_ar"
      echo "all but embedding dropout|$rates$no_embedding"
      echo "all but weight drop|$rates$no_weight"
      echo "none|$no_drop$no_weight$no_embedding$no_ar$no_variable" ;;
    *) echo "unknown part '$1': tenth or whole" >&2; exit 2 ;;
  esac
}
one() { # one DIRECTORY TRAIN_TEXT VALID_TEXT FLAGS: trains if that was not done yet, and measures on the training text
  local directory=$1 train=$2 valid=$3
  shift 3
  # shellcheck disable=SC2086 # the flags are words
  $ulmfit pretrain --corpus "$train" --valid "$valid" --out "$directory" --resume $* > /dev/null
  $ulmfit evaluate --model "$directory" --data "$train" --threads 1 --json --quiet | tail -n 1 > "$directory/train.json"
}
export -f one
number() { sed -n "s/.*\"$1\":\([0-9.e+-]*\).*/\1/p" "$2"; }
spread() { awk '{ s += $1; q += $1 * $1 } END { m = s / NR; printf "%.1f ± %.1f", m, sqrt(NR > 1 ? (q - NR * m * m) / (NR - 1) : 0) }'; }

for part in "${parts[@]}"; do
  case $part in
    tenth) size=(--emb-size 100 --hidden-size 200 --batch-size 20 --epochs 20) ;;
    *) size=(--emb-size 100 --hidden-size 200 --batch-size 40 --epochs 4) ;;
  esac
  common="--recipe awd --layers 2 ${size[*]} --set pretrain.restore_best=off --quiet --json --threads 1"
  settings "$part" | while IFS='|' read -r name flags; do
    for seed in 1 2 3; do
      printf '%s\0' "one '$out/$part-${name// /-}-$seed' '$out/$part.txt' '$data/ptb.valid.txt.zst' $common --seed $seed $flags"
    done
  done | xargs -0 -P "${JOBS:-$(nproc)}" -I{} bash -c '{}'
  echo "| $part: regularisers | train | valid | lowest valid |"
  echo "|---|---|---|---|"
  settings "$part" | while IFS='|' read -r name _; do
    train=() valid=() best=()
    for seed in 1 2 3; do
      directory=$out/$part-${name// /-}-$seed
      train+=("$(number perplexity "$directory/train.json")")
      mapfile -t curve < <(grep '"event":"evaluated"' "$directory/metrics.jsonl" | sed -n 's/.*"perplexity":\([0-9.e+-]*\).*/\1/p')
      valid+=("${curve[-1]}")
      best+=("$(printf '%s\n' "${curve[@]}" | sort -g | head -n 1)")
    done
    echo "| $name | $(printf '%s\n' "${train[@]}" | spread) | $(printf '%s\n' "${valid[@]}" | spread) | $(printf '%s\n' "${best[@]}" | spread) |"
  done
done
