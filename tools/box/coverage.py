#!/usr/bin/env python3
"""How many words of a text are not among the most frequent words of a corpus.

usage: tools/box/coverage.py CORPUS TEXT [N..]

CORPUS and TEXT are plain text, one document a line. Words are runs of letters, numbers and single
marks, lower case: nearly those of the tokenizer. For each N (30000 60000 100000): the share of
words of TEXT, and of its lines, that hold a word outside the N.
"""
import collections
import re
import sys

WORD = re.compile(r"[a-z]+(?:'[a-z]+)?|[0-9]+|[^\sa-z0-9]")


def lines(path):
    with open(path, encoding="utf-8") as file:
        for line in file:
            yield WORD.findall(line.lower())


def main():
    if len(sys.argv) < 3 or not all(n.isdigit() and int(n) > 0 for n in sys.argv[3:]):
        sys.exit(__doc__.split("\n\n")[1])
    corpus, text = sys.argv[1:3]
    counts = collections.Counter()
    for words in lines(corpus):
        counts.update(words)
    ranked = [word for word, _ in counts.most_common()]
    text = list(lines(text))
    for n in map(int, sys.argv[3:] or ("30000", "60000", "100000")):
        known = set(ranked[:n])
        unknown = [sum(word not in known for word in words) for words in text]
        share = 100 * sum(unknown) / sum(map(len, text))
        print(f"{n} words: {share:.1f} % of the words, {100 * sum(u > 0 for u in unknown) / len(text):.0f} % of the lines")


if __name__ == "__main__":
    main()
