"""One LightningDataModule for texts: tokens in, the next tokens out."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from convergent.data.documents import Documents
from convergent.data.ordered import OrderedData
from convergent.data.shared_ends import SharedContexts
from convergent.data.tokens import Contexts, Corpus, as_they_are
from convergent.data.windows import Windows
from convergent.errors import InputError

log = logging.getLogger(__name__)

PARTS = ("val", "train")  # of the documents: held out or not


class TextData(OrderedData):
    """Documents to train on, one after another in contexts without padding, and held-out ones in contexts of their own.

    Batches are (tokens, next tokens, numbers), see `windows.Windows` and `tokens.Contexts`.

    Args:
        documents: makes the documents.
        context: tokens of a context.
        vocabulary: number of byte pairs to train, or the file of a vocabulary.
        held_out: share of the documents no net is trained on.
        seed: of that choice.
        measure: which documents the statistics pass reads: "val", those held out, or "train".
        batch_size: contexts, over all processes.
        workers: processes that read beside each of these.
        order_seed: of the order of contexts.
        epoch: contexts that make up an epoch; None for all.
        others: files of other vocabularies, in whose tokens other nets read the measured documents (view "1", "2", ...).
        kept_in: folder of the tokens of all corpora.
    """

    noun = "contexts"

    def __init__(
        self,
        documents: Callable[[], Documents],
        context: int,
        vocabulary: int | Path,
        kept_in: Path,
        *,
        held_out: float = 0.05,
        seed: int = 0,
        measure: str = "val",
        batch_size: int = 16,
        workers: int = 0,
        order_seed: int = 0,
        epoch: int | None = None,
        others: Sequence[Path] = (),
    ) -> None:
        super().__init__(batch_size, workers, order_seed, 0, epoch)
        self.others = others
        self.documents, self.context, self.vocabulary, self.kept_in = documents, context, vocabulary, kept_in
        self.held_out, self.seed, self.measure_source = held_out, seed, measure
        if measure not in PARTS:
            raise InputError(f"images needs to be one of {', '.join(PARTS)}, not {measure!r}.")

    @classmethod
    def settings(cls) -> list[str]:
        """The names of its arguments."""
        return list(inspect.signature(cls).parameters)

    @cached_property
    def corpus(self) -> Corpus:
        """The documents as tokens."""
        return self._corpus(self.vocabulary)

    def _corpus(self, vocabulary: int | Path) -> Corpus:
        ends = bool(self.others)
        return Corpus.of(self.documents(), vocabulary, self.held_out, self.seed, self.kept_in, ends=ends)

    def check(self) -> None:
        """Find out that there are documents on both sides of the split, long enough to train on."""
        self.items("train")

    def items(self, stage: str) -> Dataset[Any]:
        """The contexts of a stage of training."""
        if stage == "train":
            return Windows(self.corpus.stream(), self.context)
        return Contexts(self.corpus, self.corpus.numbers(held_out=True), self.context)

    @cached_property
    def measured(self) -> Contexts | SharedContexts:
        """The contexts of the statistics pass."""
        documents_d = self.corpus.numbers(held_out=self.measure_source == "val")
        contexts: Contexts | SharedContexts = Contexts(self.corpus, documents_d, self.context, masked=True)
        if self.others:
            corpora = {str(view + 1): self._corpus(file) for view, file in enumerate(self.others)}
            contexts = SharedContexts({"0": self.corpus, **corpora}, documents_d, self.context)
            if contexts.left_out:
                log.warning(
                    "%d tokens are left out, between whose shared ends no context is long enough", contexts.left_out
                )
        if contexts.split[0]:
            log.info("%d of %d documents are longer than a context of %d: split", *contexts.split, self.context)
        return contexts

    def untrained_on(self) -> Tensor:
        """The numbers of those measured contexts on which no net is trained.

        Raises:
            InputError: if there are none.
        """
        if self.measure_source != "val":
            raise InputError("Nets are judged on texts that they were not trained on; choose images=val.")
        return torch.arange(len(self.measured))

    @property
    def group_n(self) -> Tensor:
        """The document of each measured context."""
        return self.measured.document_n

    def collate(self, items: Any) -> Callable[[Any], Any]:  # noqa: ARG002
        """Batches come gathered."""
        return as_they_are
