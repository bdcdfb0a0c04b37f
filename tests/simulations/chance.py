"""Simulates how often units are called above chance, keeps the rates in docs/chance.json, writes them into docs/chance.md.

cd tests && python -m simulations.chance          # all: some minutes of one core
cd tests && python -m simulations.chance tables   # only write the tables anew
"""

import json
import sys
from collections.abc import Iterable
from datetime import date
from itertools import groupby
from pathlib import Path

import torch

from simulations.rates import above, together
from simulations.truths import LIMITS, NOTHING, PLANTED, TOGETHER, Truth

DOCS = Path(__file__).parents[2] / "docs"
RATES, PAGE = DOCS / "chance.json", DOCS / "chance.md"
TWO = {"samples": 5000, "units": 64, "draws": 4}
SEVERAL = {"samples": 2000, "units": 32, "draws": 19, "nets": 4}
REPETITIONS = 20
NULLS = {"after": "activations", "before": "pre-activations", "shared": "the shared part"}
SCALARS = {
    "mutual_best": "mutual best partners",
    "cliques": "cliques",
    "cycles": "cycles",
    "consensus_r": "consensus r",
    "found_in_all": "matched in all others",
}


def of_two(truth: Truth) -> dict:
    """Rates of one truth."""
    repetitions = [above(truth, seed, **TWO) for seed in range(REPETITIONS)]
    row = {"firing": truth.firing, "nonlinearity": truth.nonlinearity, "r": mean(one.best_r for one in repetitions)}
    for null in NULLS:
        share = torch.stack([one.above[null].double().mean() for one in repetitions])
        row |= {f"above_{null}": round(share.mean().item(), 4)}
        row |= {f"above_{null}_error": round(share.std().item() / REPETITIONS**0.5, 4)}
        row |= {f"r_{null}": mean(one.null_r[null] for one in repetitions)}
    return {"truth": truth.name, **row}


def of_several(truth: Truth) -> dict:
    """Figures of several nets of one truth, and in how many repetitions they are above all draws."""
    repetitions = [together(truth, seed, **SEVERAL) for seed in range(REPETITIONS)]
    row = {"truth": truth.name, "firing": truth.firing}
    for name in SCALARS:
        row |= {
            name: mean(one[name] for one in repetitions),
            f"{name}_rotated": mean(one[f"{name}_rotated"] for one in repetitions),
        }
        row |= {f"{name}_above": mean(one[name] > one[f"{name}_rotated_high"] for one in repetitions)}
    return row


def mean(values: Iterable[float]) -> float:
    values = list(values)
    return round(sum(values) / len(values), 4)


SIMULATIONS = {
    "nothing": (NOTHING, of_two),
    "planted": (PLANTED, of_two),
    "limits": (LIMITS, of_two),
    "several": (TOGETHER, of_several),
}


def table_of_two(rows: list[dict]) -> str:
    """A line per truth: the shares above each null's threshold, and mean correlations beyond each null's."""
    table = [
        "| what the nets share | firing | "
        + " | ".join(NULLS.values())
        + " | r | r beyond: "
        + " | ".join(NULLS.values())
    ]
    table = [f"{table[0]} |", "| --- | --- |" + " ---: |" * (2 * len(NULLS) + 1)]
    for _, group in groupby(rows, lambda row: (row["nonlinearity"], row["truth"])):
        for place, row in enumerate(group):
            way = "" if row["nonlinearity"] == "ReLU" else f", {row['nonlinearity']}"
            cells = [f"{row[f'above_{null}']:.2f}" for null in NULLS] + [f"{row['r']:.2f}"]
            cells += [f"{row['r'] - row[f'r_{null}']:z.3f}" for null in NULLS]
            what = "the same" if place else f"{row['truth']}{way}"
            table.append(f"| {what} | {row['firing']} | {' | '.join(cells)} |")
    return "\n".join(table)


def table_of_several(rows: list[dict]) -> str:
    """A line per truth: each figure as it is / of the nets rotated / in how many repetitions it is above all draws."""
    table = [
        "| what the nets share | firing | " + " | ".join(SCALARS.values()) + " |",
        "| --- | --- |" + " --- |" * len(SCALARS),
    ]
    for row in rows:
        cells = [f"{row[name]:.2f} / {row[f'{name}_rotated']:.2f} / {row[f'{name}_above']:.0%}" for name in SCALARS]
        table.append(f"| {row['truth']} | {row['firing']} | {' | '.join(cells)} |")
    return "\n".join(table)


def write(tables: dict[str, list[dict]]) -> None:
    """Put each table between its marks."""
    text = PAGE.read_text()
    for name, rows in tables.items():
        mark = f"<!-- {name}: written by tests/simulations/chance.py -->"
        before, _, after = text.split(mark)
        table = table_of_several(rows) if name == "several" else table_of_two(rows)
        text = f"{before}{mark}\n{table}\n{mark}{after}"
    PAGE.write_text(text)


def main(asked: list[str]) -> None:
    """Simulate what is asked for, or all."""
    torch.set_num_threads(1)
    tables = json.loads(RATES.read_text()) if RATES.exists() else {}
    for name in (name for name in asked or SIMULATIONS if name != "tables"):
        truths, rates = SIMULATIONS[name]
        rows = []
        for truth in truths:
            rows.append(rates(truth) | {"date": date.today().isoformat()})
            print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
        tables[name] = rows
        RATES.write_text(json.dumps(tables, indent=1) + "\n")
    write(tables)


if __name__ == "__main__":
    main(sys.argv[1:])
