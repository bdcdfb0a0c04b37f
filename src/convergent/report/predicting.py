"""Which measure predicts what is left of function: a table over all layers and pairs of nets, and their controls."""

from collections.abc import Sequence

import pandas as pd

from convergent.analysis.predicting import rank_correlations
from convergent.report.loading import Finished
from convergent.report.tables import Table

_SOURCES = ("method", "rotated", "untrained")  # maps whose pairs of nets have measures of their own
_ON = ["layer", "a", "b", "map"]


def predicting(results: Sequence[Finished]) -> Table:
    """Rank correlations of every measure, and of every method's held-out R2, with what is kept of decisions.

    A row per predictor, the strongest first. What is kept is that of the first result with function=true, matching if it is
    there, its units' variance restored: over layers and pairs of trained nets, and with randomly rotated and untrained nets
    in net a's place beside these. No rows where nothing was judged, or fewer than three layers and pairs were.
    """
    judged = [result for result in results if (result.folder / "function.csv").exists()]
    judged = [result for result in judged if result.images == max(of.images for of in judged)]
    target = next((of for of in judged if of.folder.name == "matching"), next(iter(judged), None))
    if target is None or not (target.folder / "control_measures.csv").exists():
        return []
    frame = _restored(target)[[*_ON, "kept"]]
    for result in judged:
        frame = frame.merge(
            _restored(result)[[*_ON, "r2_held_out"]].rename(columns={"r2_held_out": result.name}), how="left"
        )
    controls = pd.DataFrame(target.rows("control_measures"))
    measures = [name for name in controls.columns if name not in _ON]
    trained = pd.DataFrame(target.summary["pairs"]).assign(map="method")
    there = [name for name in measures if name in trained]
    frame = frame.merge(pd.concat([trained[[*_ON, *there]], controls[[*_ON, *there]]]), how="left")
    is_trained, named = frame["map"] == "method", [*(of.name for of in judged), *there]
    predictors = [name for name in named if len(frame.loc[is_trained, [name, "kept"]].dropna()) > 2]
    if not predictors:
        return []
    frame = frame.infer_objects().astype(dict.fromkeys([*predictors, "kept"], float))
    of_trained, of_all = (
        rank_correlations(some, predictors).set_index("column") for some in (frame[is_trained], frame)
    )
    methods = {of.name for of in judged}
    rows = [["measure", "trained nets", "with rotated and untrained nets"]]
    for name in of_all.index:
        called = f"R² of {name.replace('_', ' ')}" if name in methods else name
        rows.append([called, *(_with_ends(of.loc[name]) for of in (of_trained, of_all))])
    return rows


def _restored(result: Finished) -> pd.DataFrame:
    rows = pd.DataFrame(result.rows("function"))
    return rows[(rows["restored"] == 1) & rows["map"].isin(_SOURCES)]


def _with_ends(row: pd.Series) -> str:
    ends = "" if pd.isna(row["low"]) else f" ({row['low']:.2f} to {row['high']:.2f})"
    return "-" if pd.isna(row["correlation"]) else f"{row['correlation']:.2f}{ends}".replace("-", "\N{MINUS SIGN}")
