from collections.abc import Callable
from os import PathLike
from typing import Optional, Union

_Path = Union[str, PathLike[str]]
_Labelled = tuple[list[list[str]], list[Optional[list[str]]]]

__version__: str

class UlmfitError(ValueError):
    hint: Optional[str]

class Folder:
    def __new__(cls) -> Folder: ...
    @property
    def path(self) -> PathLike[str]: ...

class Panel:
    def __new__(cls, folder: _Path, flags: list[str]) -> Panel: ...
    @property
    def labels(self) -> list[str]: ...
    @property
    def kind(self) -> str: ...
    @property
    def thresholds(self) -> list[float]: ...
    @property
    def is_pair(self) -> bool: ...
    def predict(
        self, documents: list[list[str]], threads: Optional[int] = None
    ) -> tuple[list[Optional[list[float]]], Optional[str]]: ...

class Speaker:
    def __new__(cls, model: _Path, named: bool, flags: list[str]) -> Speaker: ...
    def score(
        self, texts: list[str], threads: Optional[int] = None
    ) -> list[tuple[int, Optional[float], Optional[float], Optional[float]]]: ...
    def generate(
        self,
        prompt: str,
        length: int,
        temperature: float,
        top_k: Optional[int],
        seed: int,
        threads: Optional[int] = None,
    ) -> str: ...

def train(
    out: _Path,
    task: str,
    flags: list[str],
    train: _Labelled,
    valid: Optional[_Labelled],
    test: Optional[_Labelled],
    unlabelled: list[str],
    verbose: int,
    hear: Callable[[str, str], None],
    threads: Optional[int] = None,
) -> str: ...
def answer_files(folder: _Path) -> list[tuple[PathLike[str], PathLike[str]]]: ...
def main(line: list[str]) -> int: ...
def close() -> None: ...
