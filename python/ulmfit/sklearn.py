"""A scikit-learn classifier of texts: for pipelines, cross-validation and grid search.

>>> from sklearn.model_selection import GridSearchCV
>>> from ulmfit.sklearn import ULMFiTClassifier
>>> search = GridSearchCV(ULMFiTClassifier(effort="quick"), {"epochs": [1, 2]}, cv=3)
>>> search.fit(texts, labels)
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from typing import Any, Optional, Union

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import check_random_state, column_or_1d
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted

from ._classifier import Classifier
from ._inputs import Setting, texts_of

__all__ = ["ULMFiTClassifier"]


class ULMFiTClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """ULMFiT as a scikit-learn estimator.

    X is texts: a list, a 1-D array or a pandas Series of str.

    The parameters are flags of ``ulmfit run``; None leaves the choice to the recipe.

    Parameters
    ----------
    base : str or path, default=None
        The language model to start from: "english", "tiny", "none" or a folder. None: "english".
    effort : {"quick", "normal", "best"}, default=None
        How long to train.
    epochs : int, default=None
        Epochs of every stage.
    blend : {"auto", "off"}, default=None
        Whether a linear model answers beside the network.
    device : str, default="auto"
        "auto", "cpu", "cuda" or "cuda:N".
    precision : {"f32", "bf16"}, default=None
        Number format of large matrix products.
    threads : int, default=None
        None: one for every processor.
    memory_limit : str, default=None
        As "2GiB": more memory is refused.
    settings : dict, default=None
        More flags of ``ulmfit run``: ``{"classifier_lr": 0.005}``.
    random_state : int, RandomState or None, default=None
        Seed of all random numbers. None: 42, as on the command line, so that two fits are equal.
    verbose : int, default=0
        0: warnings alone. 1: progress. 2: all settings.

    Attributes
    ----------
    classes_ : ndarray
        The classes, sorted.
    class_prior_ : ndarray
        Share of each class in the training data: the answer for a text without words, with a
        warning.
    classifier_ : ulmfit.Classifier
        The model; ``classifier_.save(folder)`` keeps it.
    result_ : dict
        What the training measured.
    """

    def __init__(
        self,
        *,
        base: Optional[str] = None,
        effort: Optional[str] = None,
        epochs: Optional[int] = None,
        blend: Optional[str] = None,
        device: str = "auto",
        precision: Optional[str] = None,
        threads: Optional[int] = None,
        memory_limit: Optional[str] = None,
        settings: Optional[Mapping[str, Setting]] = None,
        random_state: Union[None, int, np.random.RandomState] = None,
        verbose: int = 0,
    ) -> None:
        self.base = base
        self.effort = effort
        self.epochs = epochs
        self.blend = blend
        self.device = device
        self.precision = precision
        self.threads = threads
        self.memory_limit = memory_limit
        self.settings = settings
        self.random_state = random_state
        self.verbose = verbose

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.one_d_array = True
        tags.input_tags.two_d_array = False
        tags.input_tags.string = True
        return tags

    def fit(self, X: Iterable[str], y: Any) -> ULMFiTClassifier:
        """Train on texts and their classes."""
        if y is None:
            raise ValueError("requires y to be passed, but the target y is None")
        y = column_or_1d(y, warn=True)
        check_classification_targets(y)
        texts = _texts(X)
        if len(texts) != len(y):
            raise ValueError(f"X and y have inconsistent numbers of samples: {len(texts)} and {len(y)}")
        classes, codes, counts = np.unique(y, return_inverse=True, return_counts=True)
        settings: dict[str, Setting] = {
            "base": self.base,
            "effort": self.effort,
            "epochs": self.epochs,
            "blend": self.blend,
            "device": self.device,
            "precision": self.precision,
            "memory_limit": self.memory_limit,
        }
        for key, value in (self.settings or {}).items():
            if key == "task":
                raise ValueError("settings: this estimator learns one class a text; ulmfit.Classifier takes a task")
            if settings.get(key) is not None:
                raise ValueError(f"settings: '{key}' is a parameter of its own")
            settings[key] = value
        classifier = Classifier().fit(
            texts,
            [classes[code].item() if hasattr(classes[code], "item") else classes[code] for code in codes],
            random_state=_seed(self.random_state),
            threads=self.threads,
            verbose=self.verbose,
            **settings,  # type: ignore[arg-type]
        )
        self.classes_, self.class_prior_ = classes, counts / counts.sum()
        self.classifier_, self.result_ = classifier, classifier.result_
        return self

    def predict_proba(self, X: Iterable[str]) -> np.ndarray:
        """Probabilities of the classes: one row for each text."""
        check_is_fitted(self)
        rows = self.classifier_.predict_proba(_texts(X))
        blank = [row is None for row in rows]
        if any(blank):
            message = f"{sum(blank)} texts have no words: their answer is the share of each class"
            warnings.warn(message, stacklevel=2)
        # the program's classes are in the order of their names
        place = {label: at for at, label in enumerate(self.classifier_.classes_)}
        order = [place[label] for label in self.classes_.tolist()]
        found = np.empty((len(rows), len(order)))
        for at, row in enumerate(rows):
            found[at] = self.class_prior_ if row is None else np.asarray(row)[order]
        return found

    def predict(self, X: Iterable[str]) -> np.ndarray:
        """The likeliest class of every text."""
        check_is_fitted(self)
        found: np.ndarray = self.classes_[np.argmax(self.predict_proba(X), axis=1)]
        return found


def _texts(X: Any) -> list[str]:
    if hasattr(X, "toarray"):
        raise TypeError("X: texts are needed; sparse data are not supported")
    if getattr(X, "ndim", 1) != 1:
        raise ValueError(f"X: one dimension of texts is needed, found {X.ndim}. Reshape your data")
    return texts_of(X, "X")


def _seed(random_state: Any) -> int:
    if random_state is None:
        return 42
    if hasattr(random_state, "__index__"):
        return int(random_state)
    return int(check_random_state(random_state).randint(2**31 - 1))
