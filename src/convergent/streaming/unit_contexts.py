"""What excites each unit of a language model most, as text: the tokens around its highest activations."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from convergent.data.tokens import Contexts
from convergent.data.vocabulary import END
from convergent.streaming.patches import Patches

_BEFORE, _AFTER = 12, 5  # tokens
_VISIBLE = dict.fromkeys((*range(32), *range(127, 160)), "�") | {ord("\t"): " ", ord("\n"): "↵", ord("\r"): ""}


class Excerpt(NamedTuple):
    """A token at which a unit is active, and the text around it; line ends are ↵, ends of texts ¶, control characters �."""

    before: str
    token: str
    after: str
    activation: float

    def __str__(self) -> str:
        return f"{self.before}«{self.token}»{self.after}"


class UnitContexts:
    """The contexts in which each unit of one net's layer is most active.

    Args:
        contexts: that were measured.
        patches: which of them, and where, without tiles.
    """

    def __init__(self, contexts: Contexts, patches: Patches) -> None:
        self.contexts, self.top, self.shown_ck = contexts, patches.top, patches.shown_ck()

    def of(self, unit: int, shown: int = 3) -> list[Excerpt]:
        """The first few of one unit, best first; none of a unit that is never active."""
        excerpts = []
        for rank in self.shown_ck[unit].nonzero()[:shown, 0].tolist() if unit >= 0 else ():
            number, position = int(self.top.image_ck[unit, rank]), int(self.top.position_ck[unit, rank])
            text = self.contexts.around(number, position, _BEFORE, _AFTER)
            before, token, after = (part.translate(_VISIBLE).replace(END, "¶") for part in text)
            excerpts.append(Excerpt(before, token, after, float(self.top.activation_ck[unit, rank])))
        return excerpts


def rows_of_contexts(
    net: str, partners: Mapping[str, tuple[Sequence[int], Sequence[float]]], nets: Mapping[str, UnitContexts]
) -> list[dict[str, Any]]:
    """A row per unit of a net: its contexts, and of its partner in each other net (unit, r) that and its contexts."""
    rows = []
    for unit in range(len(nets[net].shown_ck)):
        excerpts = nets[net].of(unit)
        row: dict[str, Any] = {"unit": unit, "activation": round(excerpts[0].activation, 4) if excerpts else ""}
        row |= {"contexts": _joined(excerpts)}
        for number in range(1, len(nets)):  # as many columns where some pairs were not compared
            other = [*partners, *[""] * len(nets)][number - 1]
            partner_b, r_b = partners.get(other, ([-1] * (unit + 1), [0.0] * (unit + 1)))
            row |= {f"net_{number}": other, f"partner_{number}": partner_b[unit], f"r_{number}": round(r_b[unit], 4)}
            row |= {f"contexts_{number}": _joined(nets[other].of(partner_b[unit], 2)) if other else ""}
        rows.append(row)
    return rows


def _joined(excerpts: Sequence[Excerpt]) -> str:
    return " ┃ ".join(map(str, excerpts))
