"""Documents in tokens of several vocabularies, which are compared where all of them end a token.

Axes: `n` contexts, `p` positions of a context, `s` shared ends of all contexts, `e` those of one document.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from functools import reduce
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from convergent.data.order import Draw
from convergent.data.tokens import MASK, PLACES, TOKENS, UNCOUNTED, Contexts, Corpus, of_view


class _View(Contexts):
    """The contexts in tokens of one vocabulary; positions are shared ends."""

    def __init__(
        self, corpus: Corpus, context: int, pieces: NDArray[np.int64], first_n: Tensor, place_s: Tensor
    ) -> None:
        self.corpus, self.context = corpus, context
        self.begin_n, self.length_n = torch.from_numpy(pieces).unbind(1)
        self.first_n, self.place_s = first_n, place_s

    def around(self, number: int, position: int, before: int, after: int) -> tuple[str, str, str]:
        """The text around the token that ends at a shared end of a context."""
        return super().around(number, int(self.place_s[self.first_n[number] + position]), before, after)


class SharedContexts(Dataset[Any]):
    """Documents in contexts that hold the same text in every vocabulary; samples are positions where all end a token.

    A context ends at a shared end, the last up to which it has no more than so many tokens in any vocabulary. What has more
    of them between two shared ends is left out.

    A batch is (inputs, -100 (n, p), numbers (n,)), as of `Contexts` with a mask; the inputs are for each view, which is a
    vocabulary, its tokens (n, p), and at which of them the samples are (n, p); and which of these are no padding.

    Attributes:
        views: the contexts in tokens of each vocabulary.
        document_n: the document of each context.
        split: how many documents are split, and how many there are.
        left_out: how many tokens of the first vocabulary.
    """

    def __init__(self, corpora: Mapping[str, Corpus], documents_d: Tensor, context: int) -> None:
        self.context, of_views = context, list(corpora.values())
        pieces: list[list[tuple[int, int]]] = [[] for _ in corpora]  # begin and length of each context
        places: list[list[NDArray[np.int64]]] = [[] for _ in corpora]
        documents, ends_n = list[int](), list[int]()
        self.split, self.left_out = (0, len(documents_d)), 0
        for document in documents_d.tolist():
            place_ve, cuts = _cut([_ends(corpus, document) for corpus in of_views], context)
            for first, stop in cuts:
                documents.append(document)
                ends_n.append(stop - first)
                for view, corpus in enumerate(of_views):
                    begin = int(place_ve[view, first - 1]) + 1 if first else 0
                    length = int(place_ve[view, stop - 1]) + 1 - begin
                    pieces[view].append((int(corpus.start_d[document]) + begin, length))
                    places[view].append(place_ve[view, first:stop] - begin)
            self.split = self.split[0] + (len(cuts) > 1), self.split[1]
            whole = int(of_views[0].start_d[document + 1] - of_views[0].start_d[document])
            self.left_out += whole - sum(length for _, length in pieces[0][len(pieces[0]) - len(cuts) :])
        self.document_n, self.ends_n = torch.tensor(documents), torch.tensor(ends_n)
        self.first_n = self.ends_n.cumsum(0) - self.ends_n
        self.views = {
            view: _View(corpus, context, np.array(of), self.first_n, torch.from_numpy(np.concatenate(place)))
            for (view, corpus), of, place in zip(corpora.items(), pieces, places)
        }

    def __len__(self) -> int:
        return len(self.document_n)

    def __getitems__(self, draws: Sequence[Draw | int]) -> list[Any]:
        number_n = torch.tensor([draw if isinstance(draw, int) else draw.image for draw in draws])
        place_p = torch.arange(self.context)
        there_np = place_p < self.ends_n[number_n, None]
        inputs = {MASK: there_np}
        for view, contexts in self.views.items():
            at_np = torch.where(there_np, self.first_n[number_n, None] + place_p, 0)
            inputs[of_view(TOKENS, view)] = contexts.tokens(number_n)[0]
            inputs[of_view(PLACES, view)] = torch.where(there_np, contexts.place_s[at_np], 0)
        return [inputs, torch.full(there_np.shape, UNCOUNTED), number_n]

    def __getitem__(self, draw: Draw | int) -> list[Any]:
        return self.__getitems__([draw])

    def manifest(self) -> list[str]:
        """What identifies the contexts: the corpora, which of their documents, and their length."""
        documents = hashlib.sha256(self.document_n.numpy().tobytes()).hexdigest()
        return [
            "shared ends",
            *(of.corpus.digest for of in self.views.values()),
            documents,
            f"contexts of {self.context}",
        ]


def _ends(corpus: Corpus, document: int) -> NDArray[np.int64]:
    """The character behind the last of each of a document's tokens; -1 of those that end within a character."""
    assert corpus.end_t is not None
    start, stop = corpus.start_d[document : document + 2].tolist()
    return corpus.end_t[start:stop].numpy().astype(np.int64)


def _cut(ends: Sequence[NDArray[np.int64]], context: int) -> tuple[NDArray[np.int64], list[tuple[int, int]]]:
    """At which token of each vocabulary the shared ends of a document are, shape (views, e), and which make up each context.

    >>> _cut([np.array([0, 2, 3, 6, 7]), np.array([0, 3, 4, 7])], 3)
    (array([[0, 2, 4],
           [0, 1, 3]]), [(0, 2), (2, 3)])
    """
    shared_e = reduce(np.intersect1d, ends)
    shared_e = shared_e[shared_e >= 0]
    true = [np.flatnonzero(of >= 0) for of in ends]
    # of several tokens that end at one place, the last: those behind the first are of no characters
    last = zip(ends, true)
    place_ve = np.stack([at[np.searchsorted(of[at], shared_e, "right") - 1] for of, at in last])
    cuts, first = list[tuple[int, int]](), 0
    while first < place_ve.shape[1]:
        before_v = place_ve[:, first - 1] if first else np.full(len(ends), -1)
        stop = min(int(np.searchsorted(of, before + context, "right")) for of, before in zip(place_ve, before_v))
        if stop > first:
            cuts.append((first, stop))
        first = max(stop, first + 1)
    return place_ve, cuts
