"""The W&B workspace of an experiment, described in code: panels grouped by question, the same for everybody."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any

from convergent.errors import InputError

if TYPE_CHECKING:
    from wandb_workspaces.workspaces import Workspace

# The questions that methods answer, and what their section is called. A method is recognised by its results: one partner per
# unit, few of them, or clusters.
QUESTIONS = {"one": "One to one", "few": "Few to one", "many": "Many to many"}
ALL_METHODS = "all"
_YARDSTICKS = ("r2_held_out", "mean_r", "predictors")
_SWEPT = {"loss": "loss_held_out", "r2": "r2_held_out", "predictors": "predictors"}  # the curve's name: the summary's


def panel(section: str, layer: str, name: str) -> str:
    """What a series of a layer is called; W&B groups by what stands before the slash, and cuts long titles at the end.

    >>> panel("all", "conv1", "mean_r")
    'all/conv1 mean r'
    """
    return f"{section}/{layer} {name.replace('_', ' ')}"


def workspace_of(entity: str, project: str, name: str, layers: Sequence[str]) -> Workspace:
    """The workspace of an experiment (the runs' group), not yet saved: from the nets' training to all methods side by side.

    Raises:
        InputError: if the package that describes workspaces is not installed.
    """
    try:
        wr: Any = import_module("wandb_workspaces.reports.v2")
        ws: Any = import_module("wandb_workspaces.workspaces")
    except ImportError:
        raise InputError(
            "A W&B workspace needs the package wandb-workspaces; install it with: pip install 'convergent[dashboard]'"
        ) from None

    def section(title: str, panels: list[Any]) -> Any:
        return ws.Section(name=title, panels=panels, is_open=True)

    training = [
        wr.LinePlot(title=title, x="epoch", y=[f"train/{name}", f"val/{name}"])
        for title, name in (("loss", "loss"), ("accuracy", "acc_top1"))
    ]
    panels = {key: _panels(wr, key, layers) for key in QUESTIONS}
    panels["few"] = [*_sweep(wr, layers), *panels["few"]]
    questions = [section(title, panels[key]) for key, title in QUESTIONS.items()]
    bars = [
        wr.BarPlot(title=f"{layer} {figure.replace('_', ' ')}", metrics=[panel(ALL_METHODS, layer, figure)])
        for figure in _YARDSTICKS
        for layer in layers
    ]
    sections = [section("Training", training), *questions, section("All methods", bars)]
    settings = ws.RunsetSettings(filters=ws.And(ws.Config("experiment") == name))
    return ws.Workspace(  # type: ignore[no-any-return]
        name=f"Convergent learning: {name}", entity=entity, project=project, sections=sections, runset_settings=settings
    )


def _panels(wr: Any, question: str, layers: Sequence[str]) -> list[Any]:
    lines = [
        wr.LinePlot(title=f"{layer} r by rank", y=[panel(question, layer, "r_by_rank")], x=f"{question}/rank")
        for layer in layers
    ]
    pictures = [f"{question}/{kind}-{layer}" for kind in ("correlations", "matches") for layer in layers]
    return [*lines, wr.MediaBrowser(title="figures", media_keys=pictures)]


def _sweep(wr: Any, layers: Sequence[str]) -> list[Any]:
    """A sweep over penalties: all layers in a chart, each run a point or a path; then a layer each, runs as points."""
    lines, points = [], []
    for curve, scalar in _SWEPT.items():
        y = [panel("few", layer, f"{curve}_by_log10_alpha") for layer in layers]
        lines.append(wr.LinePlot(title=f"{curve} by log penalty", y=y, x="log10_alpha"))
        for layer in layers:
            alpha, value = (wr.SummaryMetric(panel(ALL_METHODS, layer, name)) for name in ("solver_alpha", scalar))
            points.append(wr.ScatterPlot(title=f"{layer} {curve} by penalty", x=alpha, y=value, log_x=True))
    return [*lines, *points]


def save_workspace(where: str, name: str, layers: Sequence[str]) -> str:
    """Save an experiment's workspace online, in ENTITY/PROJECT; its address.

    Raises:
        InputError: if there is no such place, no key, or no connection.
    """
    entity, _, project = where.partition("/")
    if not entity or not project:
        raise InputError(f"workspace needs to be ENTITY/PROJECT of W&B, not {where!r}.")
    import wandb

    if not wandb.login(prompt=False):
        raise InputError("W&B has no key for saving a workspace; run `wandb login` first or leave workspace= out.")
    workspace: Any = workspace_of(entity, project, name, layers)
    try:
        workspace.save()
    except Exception as error:  # whatever the server or the network says
        raise InputError(f"W&B did not save the workspace: {' '.join(str(error).split())[:300]}") from None
    return str(workspace.url)
