#!/usr/bin/env bash
# Memory and time of making a token file, for one, two, … all of the files given: shows that memory
# does not grow with the corpus.
# usage: token_memory.sh FILE..   with ULMFIT=path of the binary (default target/release/ulmfit),
#                                 THREADS=2
# Prints a Markdown table: peak resident memory (the program's own peak_rss_mb, MiB), wall and CPU
# seconds (user + system: on a shared machine the steadier number).
set -euo pipefail
[ $# -gt 0 ] || { sed -n '4,5s/^# //p' "$0"; exit 2; }
here=$(cd "$(dirname "$0")" && pwd)
ulmfit=${ULMFIT:-$here/../target/release/ulmfit}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
value() { sed -n "s/.*\"$1\":\([0-9.]*\).*/\1/p" <<<"$2"; }
TIMEFORMAT='%U %S'
echo "| files | tokens | documents | token file, MB | peak memory, MiB | wall, s | CPU, s |"
echo "|---|---|---|---|---|---|---|"
for ((n = 1; n <= $#; n = n < $# && 2 * n > $# ? $# : 2 * n)); do
    cpu=$({ time "$ulmfit" tokenize --input "${@:1:n}" --out "$work/a.tok" --overwrite --threads "${THREADS:-2}" --quiet \
        --json >"$work/json"; } 2>&1 | tail -n 1)
    json=$(tail -n 1 "$work/json")
    printf '| %d | %d | %d | %.0f | %.0f | %.1f | %.1f |\n' "$n" "$(value tokens "$json")" "$(value documents "$json")" \
        "$(awk "BEGIN { print $(stat -c %s "$work/a.tok") / 1e6 }")" "$(value peak_rss_mb "$json")" "$(value seconds "$json")" \
        "$(awk "BEGIN { split(\"$cpu\", s, \" \"); print s[1] + s[2] }")"
done
