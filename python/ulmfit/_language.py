"""Language models: how likely a text is, and how it could go on."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import NamedTuple, Optional, Union

from . import _ulmfit
from ._inputs import flags_of, texts_of, threads_of


class Score(NamedTuple):
    """A text under a language model. None where a text has no token to predict."""

    #: Tokens that were predicted: all but the one that opens the text.
    tokens: int
    #: Mean cross-entropy in nats.
    loss: Optional[float]
    perplexity: Optional[float]
    bits_per_byte: Optional[float]


class LanguageModel:
    """A language model, by :meth:`load`."""

    _speaker: _ulmfit.Speaker
    _threads: Optional[int]

    @classmethod
    def load(
        cls,
        model: Union[str, os.PathLike[str]],
        *,
        device: str = "auto",
        precision: Optional[str] = None,
        memory_limit: Optional[str] = None,
        threads: Optional[int] = None,
    ) -> LanguageModel:
        """Load a folder or a packed file; ``"english"`` and ``"tiny"`` are in the program."""
        self = cls()
        self._threads = threads_of(threads)
        named = isinstance(model, str) and model in ("english", "tiny")
        flags = flags_of({"device": device, "precision": precision, "memory_limit": memory_limit})
        self._speaker = _ulmfit.Speaker(os.fspath(model), named, flags)
        return self

    def score(self, texts: Iterable[str]) -> list[Score]:
        """Perplexity of every text by itself."""
        return [Score(*score) for score in self._speaker.score(texts_of(texts), self._threads)]

    def generate(
        self,
        prompt: str,
        *,
        length: int = 50,
        temperature: float = 1.0,
        top_k: Optional[int] = None,
        random_state: int = 42,
    ) -> str:
        """The prompt, continued by at most `length` tokens, as ``ulmfit generate`` does."""
        return self._speaker.generate(prompt, length, temperature, top_k, random_state, self._threads)
