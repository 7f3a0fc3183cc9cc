"""What the tests share: small data, and one model for all of them."""

import atexit
import functools
import os
import random
import shutil
import tempfile
from pathlib import Path

from ulmfit import Classifier

WORDS = {
    "good": "fine lovely warm bright happy gentle clever charming".split(),
    "bad": "dull cold broken sad ugly noisy boring bitter".split(),
    "odd": "purple sideways seven upside borrowed folded hidden spare".split(),
}
#: Settings that train in seconds.
QUICK = {
    "base": "tiny",
    "device": "cpu",
    "threads": 2,
    "set": {"finetune.updates_least": 8, "classifier.updates_least": 24, "classifier.folds": 2},
}
#: Files of the whole run of the tests.
PLACE = Path(tempfile.mkdtemp(prefix="test-ulmfit-"))
atexit.register(shutil.rmtree, PLACE, ignore_errors=True)
# temporary folders of this process and of its commands, and of no other
os.environ["TMPDIR"] = str(PLACE)


def data(each, classes=("good", "bad", "odd"), seed=1):
    """Texts and their labels, the classes in turn."""
    rng = random.Random(seed)
    texts, labels = [], []
    for number in range(each):
        for label in classes:
            words = [rng.choice(WORDS[label]) for _ in range(4)]
            texts.append(f"The {words[0]} film, number {number}, was {words[1]} and {words[2]}: {words[3]}.")
            labels.append(label)
    return texts, labels


def flags():
    """QUICK as the command line spells it."""
    plain = [f"--{key}={value}" for key, value in QUICK.items() if key != "set"]
    return plain + [f"--set={key}={value}" for key, value in QUICK["set"].items()]


@functools.cache
def trained():
    """A model that `fit` made, and the folder that has kept it."""
    folder = PLACE / "trained"
    return Classifier().fit(*data(20), out=folder, verbose=0, **QUICK), folder


def temporary_folders():
    """Temporary folders of the program."""
    return {name for name in os.listdir(PLACE) if name.startswith("ulmfit-")}
