"""ULMFiT: text classifiers from a few hundred labelled texts, on an engine of its own in Rust.

>>> from ulmfit import Classifier
>>> model = Classifier().fit(texts, labels)
>>> model.predict(["What is the capital of France?"])

The same program as the command ``ulmfit``, which comes with this package: the same models, the
same folders, the same numbers.
"""

import atexit as _atexit

from ._classifier import Classifier
from ._language import LanguageModel, Score
from ._ulmfit import UlmfitError, __version__, close as _close

__all__ = ["Classifier", "LanguageModel", "Score", "UlmfitError", "__version__"]

_atexit.register(_close)
