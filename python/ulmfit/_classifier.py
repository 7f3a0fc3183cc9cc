"""The classifier: a model folder, or one that is trained here."""

from __future__ import annotations

import json
import os
import sys
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Optional, Union

from . import _ulmfit
from ._inputs import Labelled, Setting, documents_of, flags_of, labelled_of, texts_of, threads_of

Folder = Union[str, "os.PathLike[str]"]

#: Settings that say how a model is loaded, too.
_OF_LOADING = ("device", "precision", "memory_limit", "gpu_model")


class Classifier:
    """A text classifier, by :meth:`load` or :meth:`fit`.

    Attributes, once there is a model:

    ``classes_``
        The classes, in the order of the probabilities. Of a loaded model they are str.
    ``result_``
        What the training measured, with the keys of ``ulmfit run --json``; None of a loaded model.
    """

    classes_: list[Any]
    result_: Optional[dict[str, Any]]
    _panel: _ulmfit.Panel
    _folder: Path
    _temporary: Optional[_ulmfit.Folder]
    _flags: list[str]
    _threads: Optional[int]

    @classmethod
    def load(
        cls,
        folder: Folder,
        *,
        ensemble: Optional[Folder] = None,
        blend: str = "auto",
        device: str = "auto",
        precision: Optional[str] = None,
        memory_limit: Optional[str] = None,
        threads: Optional[int] = None,
    ) -> Classifier:
        """Load a model from the folder of a classifier or of a whole run.

        The arguments are the flags of ``ulmfit predict``. `threads`: None is one a processor.
        """
        settings: dict[str, Setting] = {
            "ensemble": ensemble,
            "blend": blend,
            "device": device,
            "precision": precision,
            "memory_limit": memory_limit,
        }
        self = cls()
        self._take(Path(folder), None, flags_of(settings), None, threads_of(threads))
        self.result_ = None
        return self

    def _take(
        self,
        folder: Path,
        temporary: Optional[_ulmfit.Folder],
        flags: list[str],
        meaning: Optional[Mapping[str, Any]],
        threads: Optional[int],
    ) -> None:
        panel = _ulmfit.Panel(folder, flags)
        # nothing changes where this was refused
        self._panel, self._folder, self._temporary = panel, folder, temporary
        self._flags, self._threads = flags, threads
        self.classes_ = [meaning.get(name, name) if meaning else name for name in panel.labels]

    def fit(
        self,
        texts: Iterable[Any],
        labels: Iterable[Any],
        *,
        task: str = "class",
        valid: Optional[tuple[Iterable[Any], Iterable[Any]]] = None,
        test: Optional[tuple[Iterable[Any], Iterable[Any]]] = None,
        unlabelled: Iterable[str] = (),
        out: Optional[Folder] = None,
        random_state: int = 42,
        threads: Optional[int] = None,
        verbose: int = 1,
        **settings: Setting,
    ) -> Classifier:
        """Train as ``ulmfit run`` does: fine-tune the language model, train, calibrate, blend.

        `labels`: str or numbers; a text with None counts as text alone. `task`: "class"; "labels",
        where each text has a list of them, perhaps an empty one; "regression", where each has a
        number; "pair", where each document is two texts. `valid`, `test`: texts and
        labels to choose on and to measure on. `unlabelled`: more texts of the same kind. `out`: a
        folder that keeps models and reports; without it they go with this object. `verbose`: 0
        warnings alone, 1 progress on ``sys.stderr``, 2 all settings.

        `settings` are the flags of ``ulmfit run``, with underscores: ``base="tiny"``,
        ``effort="quick"``, ``epochs=2``, ``classifier_epochs=[1, 2]``, ``device="cpu"``,
        ``set={"classifier.max_len": 700}``.

        Ctrl-C ends the training after the update in progress; the model is then what it was.
        """
        train, meaning = labelled_of((texts, labels), "train", task)
        held: list[Optional[Labelled]] = []
        for data, name in ((valid, "valid"), (test, "test")):
            if data is None:
                held.append(None)
                continue
            found, more_names = labelled_of(data, name, task)
            held.append(found)
            for one, label in more_names.items():
                meaning.setdefault(one, label)
        more, threads = texts_of(unlabelled, "unlabelled"), threads_of(threads)
        if isinstance(random_state, bool) or not hasattr(random_state, "__index__"):
            raise TypeError(f"random_state: a number is needed, not {type(random_state).__name__}")
        temporary = _ulmfit.Folder() if out is None else None
        folder = Path(temporary.path) if temporary else Path(out)  # type: ignore[arg-type]
        result = _ulmfit.train(
            folder,
            task,
            [f"--seed={int(random_state)}", *([] if task == "class" else [f"--task={task}"]), *flags_of(settings)],
            train,
            held[0],
            held[1],
            more,
            max(0, min(int(verbose), 2)),
            _hear,
            threads,
        )
        loading = {key: settings[key] for key in _OF_LOADING if key in settings}
        self._take(folder, temporary, flags_of(loading), meaning, threads)
        self.result_ = json.loads(result)
        return self

    def predict(self, texts: Iterable[Any]) -> list[Any]:
        """The likeliest class of every text; None of a text without words.

        A model of several labels gives a list of labels, one of numbers a number. A model of pairs
        takes pairs of texts.
        """
        rows = self._ask(texts)
        if self._panel.kind == "number":
            return [row and row[0] for row in rows]
        if self._panel.kind == "labels":
            least = self._panel.thresholds
            return [row and [c for c, p, t in zip(self.classes_, row, least) if p >= t] for row in rows]
        return [row and self.classes_[max(range(len(row)), key=row.__getitem__)] for row in rows]

    def predict_proba(self, texts: Iterable[Any]) -> list[Optional[list[float]]]:
        """The probabilities of every text, in the order of ``classes_``; None without words."""
        return self._ask(texts)

    def _ask(self, texts: Iterable[Any]) -> list[Optional[list[float]]]:
        if not hasattr(self, "_panel"):
            raise _ulmfit.UlmfitError("there is no model yet: fit one, or use Classifier.load")
        rows, warning = self._panel.predict(documents_of(texts, self._panel.is_pair), self._threads)
        if warning:
            warnings.warn(warning, stacklevel=3)
        return rows

    def save(self, folder: Folder) -> None:
        """Write what answers into a folder, for :meth:`load` and for ``ulmfit predict``."""
        if not hasattr(self, "_panel"):
            raise _ulmfit.UlmfitError("there is no model yet: fit one, or use Classifier.load")
        out = Path(folder)
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise _ulmfit.UlmfitError(f"{out} is not an empty folder")
        _write(out, self._files())

    def _files(self) -> list[tuple[str, bytes]]:
        return [(str(name), path.read_bytes()) for name, path in map(_paths, _ulmfit.answer_files(self._folder))]

    def __getstate__(self) -> dict[str, Any]:
        if not hasattr(self, "_panel"):
            return {}
        state = {"files": self._files(), "names": self._panel.labels, "classes": self.classes_}
        return {**state, "flags": self._flags, "result": self.result_, "threads": self._threads}

    def __setstate__(self, state: dict[str, Any]) -> None:
        if not state:
            return
        temporary = _ulmfit.Folder()
        folder = Path(temporary.path)
        _write(folder, state["files"])
        meaning = dict(zip(state["names"], state["classes"]))
        self._take(folder, temporary, state["flags"], meaning, state["threads"])
        self.result_ = state["result"]


def _paths(pair: tuple[os.PathLike[str], os.PathLike[str]]) -> tuple[Path, Path]:
    return Path(pair[0]), Path(pair[1])


def _write(folder: Path, files: list[tuple[str, bytes]]) -> None:
    for name, content in files:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def _hear(kind: str, text: str) -> None:
    """What a training says: notebooks show ``sys.stderr``, not the process's own."""
    if kind == "warning":
        warnings.warn(text, stacklevel=3)
    else:
        sys.stderr.write(text)
        sys.stderr.flush()
