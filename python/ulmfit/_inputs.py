"""What users give: texts, labels and settings, checked and made plain."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Optional, Union

Setting = Union[None, bool, int, float, str, "os.PathLike[str]", Sequence[Any], Mapping[str, Any]]

#: Settings of ``ulmfit run`` that this package gives itself.
_OWN = {
    "train": "texts and labels are arguments",
    "valid": "give valid=(texts, labels)",
    "test": "give test=(texts, labels)",
    "unlabelled": "give unlabelled=[..]",
    "seed": "give random_state=N",
    "threads": "give threads=N",
    "quiet": "give verbose=0",
    "verbose": "give verbose=0, 1 or 2",
    "json": "the result is result_",
    "seeds": "fit once for each random_state",
}


def texts_of(texts: Iterable[str], name: str = "texts") -> list[str]:
    """A list of texts from a list, an array, a pandas Series or any other iterable of str."""
    if isinstance(texts, (str, bytes)):
        raise TypeError(f"{name}: a list of texts is needed, not one text")
    if hasattr(texts, "columns") or isinstance(texts, Mapping):
        raise TypeError(f"{name}: one column of texts is needed, not a table")
    found = list(texts)
    for row, text in enumerate(found):
        if not isinstance(text, str):
            raise TypeError(f"{name}: item {row} is {_kind(text)}, not str")
    return found


def documents_of(texts: Iterable[Any], pairs: bool, name: str = "texts") -> list[list[str]]:
    """The fields of every document: one text, or the two of a pair."""
    if not pairs:
        return [[text] for text in texts_of(texts, name)]
    documents = [list(pair) if isinstance(pair, (tuple, list)) else pair for pair in texts]
    for row, pair in enumerate(documents):
        if not (isinstance(pair, list) and len(pair) == 2 and all(isinstance(t, str) for t in pair)):
            raise TypeError(f"{name}: item {row} is no pair of two str, which this model takes")
    return documents


def names_of(labels: Iterable[Any], name: str = "labels") -> tuple[list[Optional[str]], dict[str, Any]]:
    """The name of every label (None: there is none), and what each name stands for."""
    if isinstance(labels, (str, bytes)):
        raise TypeError(f"{name}: a list of labels is needed, not one label")
    if hasattr(labels, "columns") or isinstance(labels, Mapping):
        raise TypeError(f"{name}: one column of labels is needed, not a table")
    names: list[Optional[str]] = []
    meaning: dict[str, Any] = {}
    for row, label in enumerate(labels):
        if label is None:
            names.append(None)
            continue
        label = label.item() if hasattr(label, "item") and getattr(label, "ndim", 1) == 0 else label
        if not isinstance(label, (str, int, float)):
            raise TypeError(f"{name}: item {row} is {_kind(label)}, not a str or a number")
        if isinstance(label, float) and not math.isfinite(label):
            raise ValueError(f"{name}: item {row} is {label}; a text without a label has None")
        text = str(label)
        if not text.strip():
            raise ValueError(f"{name}: item {row} is blank; a text without a label has None")
        known = meaning.setdefault(text, label)
        if known != label or isinstance(known, str) != isinstance(label, str):
            raise ValueError(f"{name}: {known!r} and {label!r} are two labels with one name")
        names.append(text)
    return names, meaning


def sets_of(labels: Iterable[Any], name: str = "labels") -> tuple[list[Optional[list[str]]], dict[str, Any]]:
    """The names of the labels of every text, sorted, and what each name stands for."""
    if isinstance(labels, (str, bytes)) or hasattr(labels, "columns") or isinstance(labels, Mapping):
        raise TypeError(f"{name}: a list with the labels of every text is needed")
    found: list[Optional[list[str]]] = []
    meaning: dict[str, Any] = {}
    for row, several in enumerate(labels):
        if several is None:
            raise ValueError(f"{name}: item {row} is None; a text without any label has [], texts alone are 'unlabelled'")
        if isinstance(several, (str, bytes)) or not isinstance(several, Iterable):
            raise TypeError(f"{name}: item {row} is {_kind(several)}, not a list of labels")
        names, meanings = names_of(several, f"{name} of item {row}")
        # between the labels of a text the program puts this character
        if any(one is None or "\x1f" in one or one != one.strip() for one in names):
            raise ValueError(f"{name}: item {row} has a label that is None, or has white space around it")
        for one, label in meanings.items():
            known = meaning.setdefault(one, label)
            if known != label or isinstance(known, str) != isinstance(label, str):
                raise ValueError(f"{name}: {known!r} and {label!r} are two labels with one name")
        found.append(sorted({one for one in names if one is not None}))
    return found, meaning


def numbers_of(labels: Iterable[Any], name: str = "labels") -> list[Optional[list[str]]]:
    """The number of every text, as the program reads it; None: there is none."""
    found: list[Optional[list[str]]] = []
    for row, number in enumerate(labels):
        if number is None:
            found.append(None)
            continue
        try:
            value = float(number) if not isinstance(number, (str, bytes)) else math.nan
        except (TypeError, ValueError):
            value = math.nan
        if not math.isfinite(value):
            raise ValueError(f"{name}: item {row} is {number!r}, not a finite number; a text without one has None")
        found.append([repr(value)])
    return found


Labelled = tuple[list[list[str]], list[Optional[list[str]]]]


def labelled_of(data: Any, name: str, task: str) -> tuple[Labelled, dict[str, Any]]:
    """Documents and the names of their labels, and what these stand for, from ``(texts, labels)``."""
    if not (isinstance(data, tuple) and len(data) == 2):
        raise TypeError(f"{name}: a tuple of texts and labels is needed")
    documents = documents_of(data[0], task == "pair", f"{name}: texts")
    labels: list[Optional[list[str]]]
    meaning: dict[str, Any] = {}
    if task == "labels":
        labels, meaning = sets_of(data[1], f"{name}: labels")
    elif task == "regression":
        labels = numbers_of(data[1], f"{name}: labels")
    else:
        names, meaning = names_of(data[1], f"{name}: labels")
        labels = [None if one is None else [one] for one in names]
    if len(documents) != len(labels):
        raise ValueError(f"{name}: {len(documents)} texts, but {len(labels)} labels")
    return (documents, labels), meaning


def threads_of(threads: Optional[int]) -> Optional[int]:
    """A number of threads; None: one for every processor."""
    if threads is None:
        return None
    if isinstance(threads, bool) or not hasattr(threads, "__index__"):
        raise TypeError(f"threads: a number or None is needed, not {_kind(threads)}")
    threads = int(threads)
    if not 1 <= threads <= 4096:
        raise ValueError(f"threads: {threads} is not in 1..4096")
    return threads


def flags_of(settings: Mapping[str, Setting]) -> list[str]:
    """Flags of the command line: ``classifier_epochs=[1, 2]`` is ``--classifier-epochs=1,2``.

    True is the flag alone; None and False leave it out. ``set`` takes a mapping of recipe keys.
    """
    flags: list[str] = []
    for key, value in settings.items():
        name = key.replace("_", "-")
        if name in _OWN:
            raise TypeError(f"'{key}' is no setting: {_OWN[name]}")
        if value is None or value is False:
            continue
        if value is True:
            flags.append(f"--{name}")
        elif isinstance(value, Mapping):
            flags.extend(f"--{name}={inner}={_text(v)}" for inner, v in value.items())
        elif name == "corpus" and not isinstance(value, (str, os.PathLike)):
            flags.extend(f"--{name}={_text(v)}" for v in value)  # type: ignore[union-attr]
        else:
            flags.append(f"--{name}={_text(value)}")
    return flags


def _text(value: Any) -> str:
    """A value as the command line spells it."""
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, os.PathLike):
        return str(os.fspath(value))
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ",".join(_text(one) for one in value)
    return str(value)


def _kind(value: Any) -> str:
    return type(value).__name__
