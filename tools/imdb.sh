#!/usr/bin/env bash
# IMDb at a small size: a language model from one part of Wikipedia (one epoch), fine-tuned on a
# tenth of the reviews of train and unsup (the files whose number ends in 0; never the test set's),
# then classifiers with 500 labels (three seeds) and with all 25,000, beside the same classifiers
# from scratch. Prints one JSON line for each stage. A finished stage is not run again.
# usage: tools/imdb.sh DATA_DIR OUT_DIR [THREADS]   (the binary: cargo build --release; tar and zstd
#                                                   are needed)
set -euo pipefail
data=$1 out=$2 threads=${3:-$(nproc)}
ulmfit=${ULMFIT:-target/release/ulmfit}
mkdir -p "$out/share"
for archive in labelled unsup; do
  tar --zstd -xf "$data/imdb/aclImdb_$archive.tar.zst" -C "$out/share" --wildcards 'aclImdb/train/*/*0_*.txt'
done
common=(--recipe fastai2 --schedule one-cycle --bptt 70 --weight-decay 0.01 --quiet --json --resume --threads "$threads")
sizes=(--emb-size 100 --hidden-size 300 --layers 2 --vocab-size 10000 --min-freq 3)
labelled=$data/imdb/aclImdb_labelled.tar.zst
task=(--train "$labelled::aclImdb/train" --test "$labelled::aclImdb/test" --drop-mult 0.5 --lr 1e-2 --set classifier.max_len=420)
lm=(--batch-size 64)
stage() { printf '%s ' "$1"; shift; "$ulmfit" "$@" "${common[@]}" | tail -n 1; }

stage pretrain pretrain "${sizes[@]}" "${lm[@]}" --epochs 1 --lr 5e-3 --drop-mult 0.2 --seed 0 \
  --corpus "$data/wikipedia-en-2015/wiki_part_00.txt.zst" --out "$out/pretrain"
stage finetune-lm finetune-lm "${lm[@]}" --vocab-size 10000 --min-freq 3 --model "$out/pretrain" --text "$out/share/aclImdb/train" --epochs 1,1 --lr 4e-3 \
  --drop-mult 0.5 --unfreezing gradual --discriminative 3.1622776601683795 --seed 0 --out "$out/lm"
for seed in 0 1 2; do
  few=(--labels 500 --epochs 2,2,2,8 --batch-size 16 --seed "$seed") # of 64 documents an epoch would have 7 updates
  stage "500 labels, seed $seed:" train-classifier "${task[@]}" "${few[@]}" --model "$out/lm" --unfreezing gradual --discriminative 2.6 --out "$out/few-$seed"
  stage "500 labels, from scratch, seed $seed:" train-classifier "${task[@]}" "${few[@]}" "${sizes[@]}" --model none --unfreezing full --discriminative off \
    --out "$out/few-scratch-$seed"
done
all=(--epochs 3 --batch-size 64 --seed 0 --unfreezing full) # of three epochs none is spent on the head alone: gradually 13.3 %, at once 9.7 %
stage "all labels:" train-classifier "${task[@]}" "${all[@]}" --model "$out/lm" --discriminative 2.6 --out "$out/all"
stage "all labels, from scratch:" train-classifier "${task[@]}" "${all[@]}" "${sizes[@]}" --model none --discriminative off --out "$out/all-scratch"
