#!/usr/bin/env python3
"""The corpus of the model in the box: Wikipedia articles, split by whole articles.

usage: tools/box/corpus.py DATA OUT

DATA is the folder of the data sets. Writes into OUT:
  train-0.txt .. train-3.txt  the articles to learn from, one file for each part of the extract
  valid.txt                   whole articles held out for validation (one in 150, by article number)
  left-out.tsv                articles that a test set quotes, with the set: in neither file

An article quotes a test set, or is quoted by it, if they share a run of 13 words (letters and
digits, lower case). Test labels are not read.
"""
import csv
import io
import pathlib
import re
import subprocess
import sys
import tarfile

RUN = 13
WORD = re.compile(r"[^\W_]+")
DOC = re.compile(r'<doc id="(\d+)"[^>]*title="([^"]*)"')


def text_of(path):
    """The text of a file that may be compressed with zstd."""
    if path.suffix == ".zst":
        return subprocess.run(["zstd", "-dcq", path], check=True, capture_output=True).stdout
    return path.read_bytes()


def rows_of(path, columns):
    csv.field_size_limit(1 << 30)
    for row in csv.reader(io.StringIO(text_of(path).decode("utf-8", "replace"))):
        yield " ".join(row[c] for c in columns if c < len(row))


def archive_of(path, folder):
    with tarfile.open(fileobj=io.BytesIO(text_of(path))) as tar:
        for member in tar:
            if member.isfile() and folder in member.name:
                yield tar.extractfile(member).read().decode("utf-8", "replace")


def lines_of(path):
    yield from text_of(path).decode("latin-1" if "trec" in str(path) else "utf-8").splitlines()


def test_sets(data):
    """Name and texts of every set that scores are reported on."""
    yield "trec", lines_of(data / "trec/TREC_10.label")
    yield "sst", lines_of(data / "sst/stsa.fine.test")
    yield "mr", (line for sign in ("pos", "neg") for line in lines_of(data / f"mr/rt-polarity.{sign}"))
    yield "ag_news", rows_of(data / "ag_news/test.csv.zst", (1, 2))
    yield "dbpedia", rows_of(data / "dbpedia/test_subset.csv.zst", (1, 2))
    yield "yelp", rows_of(data / "yelp/yelp_reviews_5000_b.csv.zst", (0,))
    yield "imdb", archive_of(data / "imdb/aclImdb_labelled.tar.zst", "aclImdb/test/")
    yield "20newsgroups", archive_of(data / "20newsgroups/20news-bydate.tar.zst", "20news-bydate-test/")
    for name in ("wikitext-2", "wikitext-103"):
        for split in ("valid", "test"):
            # the tokens @-@ @,@ @.@ of WikiText stand for single characters
            text = text_of(data / f"{name}/wiki.{split}.tokens.zst").decode()
            yield f"{name} {split}", re.sub(r" ?@([-,.])@ ?", r"\1", text).splitlines()


def runs(text):
    words = WORD.findall(text.lower())
    return {hash(tuple(words[i : i + RUN])) for i in range(len(words) - RUN + 1)}


def articles(path):
    """(id, title, lines) of every article of a part, the marks `<doc>` among the lines."""
    lines = []
    for line in text_of(path).decode("utf-8").split("\n"):
        if line.startswith("<doc "):
            lines = []
        lines.append(line)
        if line == "</doc>":
            number, title = DOC.match(lines[0]).groups()
            yield int(number), title, lines


def main():
    data, out = map(pathlib.Path, sys.argv[1:3])
    out.mkdir(parents=True, exist_ok=True)
    quoted = {}
    for name, texts in test_sets(data):
        for text in texts:
            for run in runs(text):
                quoted.setdefault(run, name)
        print(f"{name}: {len(quoted):,} runs of {RUN} words so far", file=sys.stderr)
    with open(out / "valid.txt", "w") as valid, open(out / "left-out.tsv", "w") as left_out:
        for part in range(4):
            kept = held = left = 0
            with open(out / f"train-{part}.txt", "w") as train:
                for number, title, lines in articles(data / f"wikipedia-en-2015/wiki_part_{part:02}.txt.zst"):
                    shared = runs("\n".join(lines[1:-1])) & quoted.keys()
                    if shared:
                        left += 1
                        names = sorted({quoted[run] for run in shared})
                        print(number, title, len(shared), ", ".join(names), sep="\t", file=left_out)
                        continue
                    hold = number % 150 == 7
                    kept, held = kept + (not hold), held + hold
                    print("\n".join(lines), file=valid if hold else train)
            print(f"part {part}: {kept:,} articles, {held} held out, {left} left out", file=sys.stderr)


if __name__ == "__main__":
    main()
