#!/usr/bin/env bash
# Documents per second of `ulmfit tokenize` and of fastai's tokenizer (its rules and spaCy) on the
# same file, in turn.
# usage: tokenize.sh DIR SOURCE [DOCUMENTS]   with ULMFIT=path of the binary (default
#                                             target/release/ulmfit), ROUNDS=3, WORKERS=2
#   DIR     where fastai is or will be installed (by setup.sh; 6 GB) and where outputs go
#   SOURCE  a labelled CSV without a header (AG News: …/ag_news/test.csv.zst) or a folder in a tar
#           (IMDb: …/aclImdb_labelled.tar.zst::aclImdb/train); DOCUMENTS: the first so many, default
#           all
# Ours is the whole program, from the command to the last token printed as JSON; of fastai only the
# tokenizing is timed, with WORKERS processes. CPU seconds (user + system) are given beside wall
# seconds: on a shared machine they are the steadier number.
set -euo pipefail
dir=${1:?usage: tokenize.sh DIR SOURCE [DOCUMENTS]} source=${2:?which documents} n=${3:-0}
here=$(cd "$(dirname "$0")" && pwd)
ulmfit=${ULMFIT:-$here/../../target/release/ulmfit} workers=${WORKERS:-2}
[ -x "$dir/bin/python" ] || "$here/setup.sh" "$dir"
work=$(mktemp -d "$dir/tokenize.XXXX")
trap 'rm -rf "$work"' EXIT
"$dir/bin/python" "$here/tokenize_fastai.py" prepare "$source" "$n" "$work/documents.jsonl"
"$dir/bin/python" -c 'import fastai, spacy; print("fastai", fastai.__version__, "spaCy", spacy.__version__, end=", ")'
echo "$("$ulmfit" --version), $workers workers and threads, $(wc -l <"$work/documents.jsonl") documents"
TIMEFORMAT='%R %U %S'
row() { # name documents wall cpu
    awk -v name="$1" -v d="$2" -v w="$3" -v c="$4" 'BEGIN {
        printf "%-8s %7.2f s wall %7.2f s CPU %8.0f documents/s %8.0f documents/CPU second\n", name, w, c, d / w, d / c }'
}
for _ in $(seq "${ROUNDS:-3}"); do
    time=$({ time "$ulmfit" tokenize --input "$work/documents.jsonl" --text-column text --rules v2 --print \
        --threads "$workers" --quiet >"$work/ours.jsonl"; } 2>&1 | tail -n 1)
    read -r wall user system <<<"$time"
    documents=$(wc -l <"$work/ours.jsonl")
    our_cpu=$(awk "BEGIN { print $user + $system }")
    row ulmfit "$documents" "$wall" "$our_cpu"
    read -r documents _ seconds cpu < <("$dir/bin/python" -W ignore "$here/tokenize_fastai.py" time "$work/documents.jsonl" "$workers" "$work/theirs.jsonl")
    row fastai "$documents" "$seconds" "$cpu"
    awk "BEGIN { printf \"ratio    %.1f by wall time, %.1f by CPU time\n\", $seconds / $wall, $cpu / $our_cpu }"
done
"$dir/bin/python" "$here/tokenize_fastai.py" compare "$work/ours.jsonl" "$work/theirs.jsonl"
