#!/usr/bin/env bash
# Every set and number of labels: the linear model, the network from scratch, the base (one
# direction, both), and both models together; three seeds. Writes docs/results.md. What is finished
# in OUT is not done again. Nothing is chosen by test labels: settings are those of the recipe.
# usage: tools/results.sh DATA OUT [SET..]   (the binary: $ULMFIT or target/release/ulmfit)
# Environment: SEEDS (3), EFFORT (normal), BASE (what run takes), SKIP ("scratch backward": what
# compare leaves out), LABELS ("all 500 100"), THREADS, RESULTS (docs/results.md).
set -euo pipefail
data=$1 out=$2
shift 2
root=$(cd "$(dirname "$0")/.." && pwd)
ulmfit=${ULMFIT:-$root/target/release/ulmfit}
results=${RESULTS:-$root/docs/results.md}
common=(--seeds "${SEEDS:-3}" --effort "${EFFORT:-normal}" --seed 0 --json --quiet)
[ -z "${BASE:-}" ] || common+=(--base "$BASE")
for method in ${SKIP:-}; do common+=(--skip "$method"); done
[ -z "${THREADS:-}" ] || common+=(--threads "$THREADS")
mkdir -p "$out"

# one NAME LABELS|all FLAGS..
one() {
  local name=$1 labels=$2 place=$out/$1-$2
  [[ " ${LABELS:-all 500 100} " == *" $labels "* ]] || return 0
  shift 2
  local few=()
  [ "$labels" = all ] || few=(--labels "$labels")
  mkdir -p "$place"
  if [ ! -s "$place/done.json" ]; then
    echo "$name, $labels labels" >&2
    "$ulmfit" compare "${common[@]}" "${few[@]}" "$@" --out "$place/runs" |
      tail -n 1 >"$place/done.part"
    mv "$place/done.part" "$place/done.json"
  fi
}

# the folders of a tar archive, unpacked once
unpacked() {
  local archive=$1 place=$out/$2
  if [ ! -d "$place" ]; then
    mkdir -p "$place.part"
    tar --zstd -xf "$archive" -C "$place.part"
    mv "$place.part" "$place"
  fi
}

# the texts of MR as one table each: every tenth of a class is test
mr() {
  local place=$out/mr-data
  [ -s "$place/test.tsv" ] && return
  mkdir -p "$place"
  for sign in pos neg; do
    iconv -f latin1 -t utf-8 "$data/mr/rt-polarity.$sign" | awk -v sign=$sign '{ gsub(/\t/, " "); print sign "\t" $0 }' >"$place/$sign"
  done
  { printf 'label\ttext\n'; awk 'FNR % 10 != 0' "$place/pos" "$place/neg"; } >"$place/train.tsv"
  { printf 'label\ttext\n'; awk 'FNR % 10 == 0' "$place/pos" "$place/neg"; } >"$place/test.tsv"
}

# the first 8,000 reviews of Yelp to learn from, the last 2,000 to test
yelp() {
  local place=$out/yelp-data
  [ -s "$place/test.csv" ] && return
  mkdir -p "$place"
  zstd -dcq "$data/yelp/yelp_kaggle_10000.csv.zst" | python3 -c '
import csv, sys
csv.field_size_limit(1 << 30)
rows = list(csv.DictReader(sys.stdin))
for name, part in (("train", rows[: len(rows) * 4 // 5]), ("test", rows[len(rows) * 4 // 5 :])):
    with open(f"{sys.argv[1]}/{name}.csv", "w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["stars", "text"])
        table.writerows([row["stars"], row["text"]] for row in part)
' "$place"
}

sets() {
  for labels in all 500 100; do
    one trec $labels --train "$data/trec/train_5500.label" --test "$data/trec/TREC_10.label"
  done
  for labels in all 500; do
    one sst2 $labels --train "$data/sst/stsa.binary.train" --valid "$data/sst/stsa.binary.dev" --test "$data/sst/stsa.binary.test"
  done
  one sst5 all --train "$data/sst/stsa.fine.train" --valid "$data/sst/stsa.fine.dev" --test "$data/sst/stsa.fine.test"
  mr
  one mr all --train "$out/mr-data/train.tsv" --test "$out/mr-data/test.tsv"
  for labels in all 500 100; do
    one ag_news $labels --train "$data/ag_news/train_subset.csv.zst" --test "$data/ag_news/test.csv.zst" --format csv-no-header \
      --label-column 1 --text-column 2 --text-column 3
  done
  one dbpedia all --train "$data/dbpedia/train_subset.csv.zst" --test "$data/dbpedia/test_subset.csv.zst" --format csv-no-header \
    --label-column 1 --text-column 2 --text-column 3
  yelp
  one yelp all --train "$out/yelp-data/train.csv" --test "$out/yelp-data/test.csv" --text-column text --label-column stars
  unpacked "$data/20newsgroups/20news-bydate.tar.zst" 20news
  one 20newsgroups all --train "$out/20news/20news-bydate-train" --test "$out/20news/20news-bydate-test"
  unpacked "$data/imdb/aclImdb_labelled.tar.zst" imdb
  unpacked "$data/imdb/aclImdb_unsup.tar.zst" imdb-unsup
  for labels in all 500 100; do
    one imdb $labels --train "$out/imdb/aclImdb/train" --test "$out/imdb/aclImdb/test" \
      --unlabelled "$out/imdb-unsup/aclImdb/train/unsup"
  done
}

chosen=" $* "
if [ $# -gt 0 ]; then
  # only these sets
  eval "$(declare -f one | sed '1s/one/all_of_one/')"
  one() { [[ $chosen != *" $1 "* ]] || all_of_one "$@"; }
fi
sets
python3 "$root/tools/results.py" "$out" >"$results"
