"""A judge that is an NLI cross-encoder, run by sentence-transformers."""

from __future__ import annotations

from functools import cached_property, lru_cache
from typing import Any

from rag.errors import EmbeddingModelError
from rag.verification.judges import Entailment

_MIN_SCORE = 0.5  # from which a model with a single output says "entailed"


class NLIJudge:
    """Any CrossEncoder whose labels include entailment, or that has a single output.

    Calling it raises EmbeddingModelError if the model cannot be loaded or has other labels.
    """

    def __init__(self, model: str) -> None:
        self.name = model

    def __call__(self, sentence: str, text: str) -> Entailment:
        """Whether `text` entails `sentence`."""
        entailment, contradiction = self._labels
        if entailment < 0:
            score = float(self._model.predict([(text, sentence)], show_progress_bar=False)[0])
            return Entailment(label="supported" if score >= _MIN_SCORE else "not_stated")
        row = self._model.predict([(text, sentence)], apply_softmax=True, show_progress_bar=False)[0]
        best = int(row.argmax())
        if best == entailment:
            return Entailment(label="supported")
        return Entailment(label="contradicted" if best == contradiction else "not_stated")

    @property
    def _model(self) -> Any:
        return _load(self.name)

    @cached_property
    def _labels(self) -> tuple[int, int]:
        """The columns of entailment and contradiction; -1 for one that the model does not have."""
        labels = {int(i): str(label).lower() for i, label in self._model.config.id2label.items()}
        entailment = next((i for i, label in labels.items() if label.startswith("entail")), -1)
        contradiction = next((i for i, label in labels.items() if label.startswith("contra")), -1)
        if entailment < 0 and len(labels) > 1:
            message = f"{self.name} is not an NLI model: its labels are {', '.join(labels.values())}."
            raise EmbeddingModelError(message, "Check nli_model.")
        return entailment, contradiction


@lru_cache(maxsize=2)
def _load(name: str) -> Any:
    """The model `name`, loaded once for every judge. Raises EmbeddingModelError."""
    from sentence_transformers import CrossEncoder

    try:
        return CrossEncoder(name)
    except Exception as error:  # any type: the library lets through those of the hub, of torch and of the files
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise EmbeddingModelError(f"Cannot load the NLI model {name}: {reason}", "Check nli_model.") from error
