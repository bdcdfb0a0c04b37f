"""Tables of what a pass will collect and what it takes, a line per layer."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from convergent.streaming.accumulate import Accumulator

HEADINGS = ["layer", "activation", "units are", "units", "positions", "samples", "blocks", "products", "pass", "method"]
LEFT = 4  # of them are text


def table_of(headings: Sequence[str], rows: Sequence[Sequence[str]], text_columns: int) -> str:
    """A table in plain text; all columns but the first few are numbers."""
    columns = []
    for number, column in enumerate(zip(headings, *rows)):
        width = max(map(len, column))
        columns.append([cell.ljust(width) if number < text_columns else cell.rjust(width) for cell in column])
    return "\n".join("  ".join(row) for row in zip(*columns))


def row_of(accumulator: Accumulator, shapes: Sequence[Sequence[int]], where: Sequence[str], samples: int) -> list[str]:
    """What is said of a layer: the shape of its activation in each net, where its units are, and what it takes."""
    widths = [units.stop - units.start for units in accumulator.units.values()]
    return [
        accumulator.layer,
        _listed(" x ".join(map(str, shape)) for shape in shapes),
        _listed(where),
        f"{len(widths)} nets x {widths[0]}" if len(set(widths)) == 1 else _listed(map(str, widths)),
        f"{accumulator.positions:,}",
        f"{samples:,}",
        str(accumulator.blocks),
        str(accumulator.dtype).removeprefix("torch."),
        f"{accumulator.pass_memory / 1e6:,.0f} MB",
        f"{method_memory(accumulator) / 1e6:,.0f} MB",
    ]


def method_memory(accumulator: Accumulator) -> int:
    """Bytes that aligning the two widest nets takes: their moments, and about as much for what is made of them.

    What is made of them are the moments of all blocks together, of folds, and correlations: some six matrices.
    """
    widest = sum(sorted(units.stop - units.start for units in accumulator.units.values())[-2:])
    return int((2 * accumulator.blocks + 6) * widest**2 * 8)


def _listed(values: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(values))
