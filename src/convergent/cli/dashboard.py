"""Weights & Biases: what a job leaves there. Offline unless told otherwise, and nothing is ever asked at a prompt."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import wandb
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.loggers import Logger, WandbLogger

from convergent.analysis.results import Result
from convergent.cli.processes import first_process
from convergent.cli.workspace import ALL_METHODS, panel
from convergent.errors import InputError
from convergent.training.runs import Run


def start_logger(
    config: DictConfig, about: DictConfig, folder: Path, group: str, name: str, job_type: str
) -> Logger | None:
    """The logger of one job, None in all processes but the first.

    A resumed job goes on with the W&B run whose id its folder keeps.

    Args:
        config: of the logger.
        about: the job's configuration.
        folder: of the result.
        group: the experiment.
        name: of the run.
        job_type: "train" or "align".

    Raises:
        InputError: if the logger is to be online but there is no key, or W&B cannot start.
    """
    if not first_process():
        return None
    if config._target_ != "wandb.init":
        return instantiate(config, save_dir=str(folder))  # type: ignore[no-any-return]
    online = config.mode == "online"
    if online and not wandb.login(prompt=False):
        raise InputError("W&B has no key for logging online; run `wandb login` first or leave logger.mode=offline.")
    kept = folder / "wandb-id"
    if not kept.exists():
        kept.write_text(secrets.token_hex(4))
    settings: Any = OmegaConf.to_container(about, resolve=True)
    settings["experiment"] = group
    try:
        run = instantiate(config, _partial_=True)(
            name=name,
            id=kept.read_text(),
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
            _artifact(logger, run.folder.parent.name + "-" + run.name, "weights", files)
            logger.experiment.finish()


def log_alignment(
    logger: Logger | None,
    layers: Mapping[str, Mapping[str, Any]],
    results: Sequence[Result],
    figures: Sequence[Path],
    files: Sequence[Path],
    name: str,
    epochs: Mapping[str, Mapping[str, Mapping[str, Any]]],
    tables: Mapping[str, Sequence[Mapping[str, Any]]],
    curves: Mapping[str, Mapping[str, Mapping[str, Sequence[float]]]],
    question: str,
) -> None:
    """Leave an alignment's figures per layer, curves, unit table, pictures and files, and end the job's W&B run.

    What all methods have in common is called "all/LAYER ...", everything else "QUESTION/...", so that W&B groups its panels
    by question, and titles that are cut at their end still differ.

    Args:
        logger: of the job; nothing is done for any but W&B's.
        layers: from `results.by_layer`; they become the run's summary, so that sweeps can be compared.
        results: of every pair.
        figures: PNG files.
        files: of the artifact.
        name: of the artifact.
        epochs: the same as `layers` for each epoch, where nets are compared along their training.
        tables: rows by the table's name, from `reports.rows_by_table`; arrays (rows, columns, 3) in them are pictures.
        curves: from `reports.mean_curves`; series against their own axis.
        question: that the method answers, see `workspace.QUESTIONS`.
    """
    if not isinstance(logger, WandbLogger):
        return
    run = logger.experiment
    for layer, values in layers.items():
        run.summary.update(
            {panel(ALL_METHODS, layer, key): value for key, value in values.items() if value is not None}
        )
    # series, one step per rank: terminal dashboards draw nothing else
    sorted_r = {layer: _mean_sorted_r(results, layer) for layer in layers}
    for layer in sorted_r:
        run.define_metric(panel(question, layer, "r_by_rank"), step_metric=f"{question}/rank")
    for rank in range(max(map(len, sorted_r.values()), default=0)):
        by_rank = {
            panel(question, layer, "r_by_rank"): float(r[rank]) for layer, r in sorted_r.items() if rank < len(r)
        }
        run.log({f"{question}/rank": rank + 1, **by_rank})
    for epoch, of_epoch in epochs.items():
        means = {panel(question, layer, "mean_r_by_epoch"): values.get("mean_r") for layer, values in of_epoch.items()}
        run.log({"epoch": int(epoch), **{key: value for key, value in means.items() if value is not None}})
    for axis, of_layer in curves.items():
        for layer, columns in of_layer.items():
            series = {panel(question, layer, f"{name}_by_{axis}"): y for name, y in columns.items() if name != axis}
            for name in series:
                run.define_metric(name, step_metric=axis)
            for point, x in enumerate(columns[axis]):
                run.log({axis: x, **{name: y[point] for name, y in series.items()}})
    with _staging(run):
        pictures: dict[bytes, wandb.Image] = {}  # W&B stages a picture as often as it is made
        for table, rows in {"units": [row for result in results for row in result.rows()], **tables}.items():
            if rows:
                cells = [[_cell(value, pictures) for value in row.values()] for row in rows]
                # in the summary: in the history they would be charts of their numbers of rows
                run.summary[f"{question}/{table}"] = wandb.Table(columns=list(rows[0]), data=cells)
        run.log({f"{question}/{path.stem}": wandb.Image(str(path)) for path in figures})
        _artifact(logger, name, "alignment", files)
        run.finish()


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
    legal = "".join(letter if letter.isalnum() or letter in "-_." else "-" for letter in name)[-120:]
    artifact = wandb.Artifact(legal, type=kind)
    for file in files:
        artifact.add_file(str(file), policy="immutable", skip_cache=True)  # no copies in the home directory
    logger.experiment.log_artifact(artifact)
