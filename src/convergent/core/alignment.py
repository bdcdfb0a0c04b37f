"""What every method returns: one linear map from net a's units to net b's, whatever made it.

Axes: `a` units of net a (p of them), `b` units of net b (q of them).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

from convergent.core.prediction import Prediction, explained
from convergent.core.scores import fold_predictions, held_out
from convergent.core.ties import first_best
from convergent.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

    from convergent.core.pairs import Pair


class Method(Protocol):
    """What aligns: any function of a pair; ours are frozen dataclasses of their options, one YAML each in conf/method.

    Nothing else is needed. Two things a method may have beside:

    `refit(self, alignment, *, choices: bool) -> Method`: the same method for images that are nearly those of an alignment
    which it made; it may leave out a proof, which changes nothing but the time. With `choices` it also keeps what
    it chose there (a penalty, a ridge, clusters) and fits all but that anew. Held-out scores are without choices, so that
    nothing is known of the images left out; intervals over images are with them, for the jackknife needs statistics that
    are smooth; nulls are with them, but where clusters were chosen.

    `counting: histogram_source.Counting`: the joint histograms of pairs of units that it needs beside second moments, see
    `histogram_source.counting_of`; a pass then counts them.
    """

    def __call__(self, pair: Pair, /) -> Alignment:
        """The alignment of a pair."""


@dataclass(frozen=True, eq=False)
class Alignment:
    """Every unit of net b predicted from net a's units: z_nb ~ z_na @ map_ab on standardised units.

    Attributes:
        pair: the two nets that were aligned.
        map_ab: the linear map, shape (p, q): a permutation scaled by r, a sparse row, a regression within a cluster.
        labels_a: the cluster of each unit of a where the method clusters, shape (p,); -1 for none.
        labels_b: the cluster of each unit of b, shape (q,).
        solver: what the solver says of itself (optimality gap, iterations, ...).
        asked_b: which units of b the method was to predict, shape (q,); all if None. The others count nowhere.
        method: that made it, where `align` called it: what refits and held-out scores are made by.
    """

    pair: Pair
    map_ab: Tensor
    labels_a: Tensor | None = None
    labels_b: Tensor | None = None
    solver: Mapping[str, float] = field(default_factory=dict)
    asked_b: Tensor | None = None
    method: Method | None = None

    def __repr__(self) -> str:
        by = "" if self.method is None else f" by {self.method}"
        return (
            f"Alignment({self.pair.name_a} to {self.pair.name_b}{by}, {len(self.map_ab)} to {len(self.map_ab.T)} units)"
        )

    def _repr_html_(self) -> str:
        return str(self.frame().round(3).to_html(index=False, max_rows=10))

    def refit(self, *, choices: bool) -> Method:
        """The method for images that are nearly those of this alignment, see `Method`.

        Raises:
            InputError: if it is not known which method made the alignment.
        """
        if self.method is None:
            raise InputError("A refit needs the method that made the alignment; make it by align(method, pair).")
        own = getattr(self.method, "refit", None)
        return self.method if own is None else own(self, choices=choices)

    @cached_property
    def counted_b(self) -> Tensor:
        """Which units of b vary and were to be predicted, shape (q,): those that every mean is over."""
        return self.pair.active_b if self.asked_b is None else self.pair.active_b & self.asked_b

    @cached_property
    def score_b(self) -> Tensor:
        """Share of each unit's variance explained on the images of the fit, shape (q,); `held_out_b` is the evidence."""
        return explained(self.map_ab, self.pair, self.pair)

    @cached_property
    def held_out_b(self) -> Tensor | None:
        """Share of each unit's variance explained on held-out images, shape (q,); None where the pair holds none out.

        Raises:
            InputError: if it is not known which method made the alignment.
        """
        if not self.pair.holds_out:
            return None
        # predictions, which few ask for, have it beside them where they are there already
        return self._of_folds[0] if "_of_folds" in self.__dict__ else self._held_out()

    @property
    def predictions(self) -> Sequence[Prediction]:
        """The method's predictions, each fitted without one fold of the blocks of images; none where none is held out.

        Raises:
            InputError: if it is not known which method made the alignment.
        """
        return self._of_folds[1] if self.pair.holds_out else []

    def _held_out(self) -> Tensor:
        return held_out(self.refit(choices=False), self.pair)

    @cached_property
    def _of_folds(self) -> tuple[Tensor, list[Prediction]]:
        return fold_predictions(self.refit(choices=False), self.pair)

    @cached_property
    def predictors_b(self) -> Tensor:
        """How many units of a predict each unit of b, shape (q,)."""
        return (self.map_ab != 0).sum(0)

    @cached_property
    def partner_b(self) -> Tensor:
        """The unit of a with the largest weight for each unit of b, shape (q,); -1 for units with none."""
        return torch.where(self.predictors_b > 0, torch.from_numpy(first_best(self.map_ab.abs().numpy())), -1)

    @cached_property
    def sharing_a(self) -> Tensor:
        """For how many units of b each unit of a is the partner, shape (p,)."""
        return torch.bincount(self.partner_b[self.partner_b >= 0], minlength=len(self.map_ab))

    @cached_property
    def r_b(self) -> Tensor:
        """Correlation of each unit of b with its prediction, shape (q,): signed for a single partner, else multiple."""
        single_b, sum_b = self.predictors_b <= 1, self.map_ab.sum(0)  # of none it is 0
        return sum_b if single_b.all() else torch.where(single_b, sum_b, self.score_b.clamp(min=0).sqrt())

    def frame(self) -> pd.DataFrame:
        """A row per unit of b, constant ones included, as a data frame of pandas; its columns are among those of results."""
        import pandas as pd

        labels = {} if self.labels_b is None else {"cluster": self.labels_b}
        columns = {
            "active": self.counted_b, "partner": self.partner_b, "predictors": self.predictors_b, "r": self.r_b,
            "r2_in_sample": self.score_b, **labels,
        }  # fmt: skip
        head = {"layer": self.pair.layer, "a": self.pair.name_a, "b": self.pair.name_b, "unit": range(self.pair.q)}
        return pd.DataFrame(head | {name: value_b.numpy() for name, value_b in columns.items()})


def align(method: Method, pair: Pair) -> Alignment:
    """The method's alignment of a pair, which knows its method: what held-out scores and refits need."""
    return replace(method(pair), method=method)


def name_of(method: Any) -> str:
    """What a method is called on the command line: the name of its file, with the options that are not its defaults.

    >>> from convergent.methods.matching import Matching
    >>> from convergent.methods.sparse import SparsePrediction
    >>> name_of(SparsePrediction(alpha=0.1)), name_of(Matching())
    ('sparse,alpha=0.1', 'matching')
    """
    if not is_dataclass(method):
        return getattr(method, "__name__", type(method).__name__)
    changed = {of.name: getattr(method, of.name) for of in fields(method) if getattr(method, of.name) != of.default}
    home = type(method).__module__
    name = home.rpartition(".")[2] if home.startswith("convergent.") else type(method).__name__
    return ",".join([name, *(f"{option}={value}" for option, value in sorted(changed.items()))])
