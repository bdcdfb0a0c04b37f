"""Weights & Biases: what a job leaves there. Offline by default, and nothing is ever asked at a prompt."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.loggers import Logger, WandbLogger

from convergent.analysis.reports import mean_curves, rows_by_table
from convergent.cli.processes import first_process
from convergent.cli.workspace import ALL_METHODS, panel
from convergent.errors import InputError

if TYPE_CHECKING:
    import wandb

    from convergent.analysis.results import Result
    from convergent.cli.writing import Aligned
    from convergent.training.runs import Run


def start_logger(
    config: DictConfig, about: DictConfig, folder: Path, group: str, name: str, job_type: str
) -> Logger | None:
    """The logger of one job ("train" or "align"), None in all processes but the first.

    A resumed job goes on with its W&B run, whose id is in the result's folder. The experiment is the run's group.

    Raises:
        InputError: if the logger is to be online but there is no key, or W&B cannot start.
    """
    if not first_process():
        return None
    if config._target_ != "wandb.init":
        return instantiate(config, save_dir=str(folder))  # type: ignore[no-any-return]
    import wandb  # half a second, which other loggers need not spend

    online = config.mode == "online"
    if online and not wandb.login(prompt=False):
        raise InputError("W&B has no key for logging online; run `wandb login` first or leave logger.mode=offline.")
    id_file = folder / "wandb-id"
    if not id_file.exists():
        id_file.write_text(secrets.token_hex(4))
    settings: Any = OmegaConf.to_container(about, resolve=True)
    settings["experiment"] = group
    try:
        run = instantiate(config, _partial_=True)(
            name=name,
            id=id_file.read_text(),
            resume="allow" if online else None,
            group=group,
            job_type=job_type,
            config=settings,
            settings=wandb.Settings(silent=True, reinit="create_new"),  # a job may train several nets
        )
    except wandb.Error as error:
        raise InputError(f"W&B cannot start ({' '.join(str(error).split())}); leave logger.mode=offline.") from None
    return WandbLogger(experiment=run)


def log_run(logger: Logger | None, run: Run) -> None:
    """Leave a trained net's weights as an artifact and end the job's W&B run."""
    if isinstance(logger, WandbLogger):
        with _staging(logger.experiment):
            files = [run.weights, run.folder / "config.yaml"]
            _artifact(logger, f"{run.group}-{run.name}", "weights", files)
            logger.experiment.finish()


def log_alignment(
    logger: Logger | None, name: str, aligned: Aligned, summary: Mapping[str, Any], files: Sequence[Path], question: str
) -> None:
    """Leave an alignment's scalars per layer, curves, tables, pictures and files, and end the job's run, if it is W&B's.

    What all methods have in common is called "all/LAYER ...", everything else "QUESTION/...", so that W&B groups its panels
    by question, and titles that are cut at their end still differ.

    Arrays (rows, columns, 3) in pictured rows are pictures; the scalars per layer of summary.json become the run's summary,
    so that sweeps can be compared; `name` and `files` are the artifact's, `question` is one of `workspace.QUESTIONS`.
    """
    if not isinstance(logger, WandbLogger):
        return
    import wandb

    run, results = logger.experiment, aligned.results
    for layer, scalars in summary["layers"].items():
        scalars = scalars | _each_apart(summary["across"].get(layer, {}))
        run.summary.update({panel(ALL_METHODS, layer, key): x for key, x in scalars.items() if x is not None})
    # series, one step per rank: terminal dashboards draw nothing else
    sorted_r = {layer: _mean_sorted_r(results, layer) for layer in summary["layers"]}
    by_rank = {layer: {"rank": range(1, len(r) + 1), "r_by_rank": r} for layer, r in sorted_r.items()}
    _log_series(run, f"{question}/rank", "rank", by_rank, question)
    for epoch, layers in summary.get("epochs", {}).items():
        means = {layer: scalars["mean_r"] for layer, scalars in layers.items() if scalars.get("mean_r") is not None}
        run.log({"epoch": int(epoch)} | {panel(question, layer, "mean_r_by_epoch"): r for layer, r in means.items()})
    for axis, layers in mean_curves(aligned.reports).items():
        by_axis = {
            layer: {key if key == axis else f"{key}_by_{axis}": values for key, values in columns.items()}
            for layer, columns in layers.items()
        }
        _log_series(run, axis, axis, by_axis, question)
    tables = {"units": [row for result in results for row in result.rows()], **rows_by_table(aligned.reports)}
    tables |= {"pictures": aligned.pictured}
    with _staging(run):
        pictures: dict[bytes, wandb.Image] = {}  # W&B stages a picture as often as it is made
        for table, rows in tables.items():
            if rows:
                cells = [[_cell(value, pictures) for value in row.values()] for row in rows]
                # in the summary: in the history they would be charts of their numbers of rows
                run.summary[f"{question}/{table}"] = wandb.Table(columns=list(rows[0]), data=cells)
        run.log({f"{question}/{path.stem}": wandb.Image(str(path)) for path in aligned.figures})
        _artifact(logger, name, "alignment", files)
        run.finish()


def log_merging(
    logger: Logger | None,
    name: str,
    summary: Mapping[str, Any],
    tables: Mapping[str, Sequence[Mapping[str, Any]]],
    figure: Path,
    files: Sequence[Path],
) -> None:
    """Leave a merging's scalars per alignment, the way between nets as series, tables, figure and files, if it is W&B's.

    Args:
        logger: of the job.
        name: of the artifact.
        summary: of summary.json.
        tables: rows by name; of `line` the means over the pairs of nets become series.
        figure: a PNG file.
        files: of the artifact.
    """
    if not isinstance(logger, WandbLogger):
        return
    import wandb

    run = logger.experiment
    for alignment, scalars in summary["alignments"].items():
        run.summary.update({f"merging/{alignment} {key.replace('_', ' ')}": x for key, x in scalars.items()})
    series: dict[float, dict[str, list[float]]] = {}
    for row in tables["line"]:
        for key in ("loss", "accuracy"):
            title = f"merging/{row['alignment']} {key}{' repaired' if row['repair'] else ''}"
            series.setdefault(row["share_b"], {}).setdefault(title, []).append(row[key])
    for title in next(iter(series.values())):
        run.define_metric(title, step_metric="merging/share_b")
    for share, values in series.items():
        run.log({"merging/share_b": share} | {title: sum(of) / len(of) for title, of in values.items()})
    with _staging(run):
        for table, rows in tables.items():
            run.summary[f"merging/{table}"] = wandb.Table(
                columns=list(rows[0]), data=[list(row.values()) for row in rows]
            )
        run.log({f"merging/{figure.stem}": wandb.Image(str(figure))})
        _artifact(logger, name, "merging", files)
        run.finish()


def _log_series(
    run: Any, step: str, axis: str, layers: Mapping[str, Mapping[str, Sequence[float]]], question: str
) -> None:
    """Log each layer's columns against its column `axis`, which is called `step` in W&B; a point of all layers at a time."""
    points: dict[float, dict[str, float]] = {}
    for layer, columns in layers.items():
        for name, values in columns.items():
            if name != axis:
                run.define_metric(panel(question, layer, name), step_metric=step)
                for x, value in zip(columns[axis], values):
                    points.setdefault(x, {})[panel(question, layer, name)] = float(value)
    for x, of_all in sorted(points.items()):
        run.log({step: x, **of_all})


def _each_apart(scalars: Mapping[str, Any]) -> dict[str, float]:
    """Scalars over all nets, and lists of them, one by one, for a dashboard."""
    apart: dict[str, float] = {}
    for name, value in scalars.items():
        apart |= {f"{name}_{m}_others": x for m, x in enumerate(value)} if isinstance(value, list) else {name: value}
    return apart


@contextmanager
def _staging(run: Any) -> Iterator[None]:
    """Let W&B stage what it uploads: in an offline run's own folder, for `wandb sync` wants it, online only until then."""
    with TemporaryDirectory(prefix="convergent-wandb-") as passing:
        folder = str(Path(run.dir).parent) if run.offline else passing
        before = os.environ.get("WANDB_DATA_DIR")
        os.environ["WANDB_DATA_DIR"] = folder
        try:
            yield
        finally:
            os.environ.pop("WANDB_DATA_DIR")
            if before is not None:
                os.environ["WANDB_DATA_DIR"] = before


def _cell(value: Any, pictures: dict[bytes, wandb.Image]) -> Any:
    if not isinstance(value, np.ndarray):
        return value
    import wandb

    key = str(value.shape).encode() + value.tobytes()
    if key not in pictures:
        pictures[key] = wandb.Image(value)
    return pictures[key]


def _mean_sorted_r(results: Sequence[Result], layer: str) -> Any:
    """Correlations with the partner, best first, averaged over the pairs of nets rank by rank."""
    curves = [np.sort(result.r_b[result.active_b])[::-1] for result in results if result.layer == layer]
    width = min(map(len, curves))
    return np.mean([curve[:width] for curve in curves], 0)


def _artifact(logger: WandbLogger, name: str, kind: str, files: Sequence[Path]) -> None:
    import wandb

    legal = "".join(letter if letter.isalnum() or letter in "-_." else "-" for letter in name)[-120:]
    artifact = wandb.Artifact(legal, type=kind)
    for file in files:
        artifact.add_file(str(file), policy="immutable", skip_cache=True)  # no copies in the home directory
    logger.experiment.log_artifact(artifact)
