"""What of an experiment is there to be looked at: the report page, and pictures that belong to no single method."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from convergent.cli.command import command_of
from convergent.figures.style import save
from convergent.progress import track
from convergent.report.gather import gather, left_out_if_damaged
from convergent.report.unit_pictures import activity_of
from convergent.report.write import write_page
from convergent.streaming.patches import load_patches
from convergent.streaming.saved_moments import SavedMoments


def look(root: Path, name: str, found: Mapping[str, Mapping[str, Any]], picture_bytes: float) -> Path:
    """Write the page of an experiment into outputs/report/NAME, with pictures beside it; the page's file.

    Args:
        root: folder of outputs/.
        name: of the experiment.
        found: summary.json of each finished result by its label.
        picture_bytes: that the pictures in the page may take.
    """
    folder = root / "outputs" / "report" / name
    draw_extremes(root, next(iter(found.values())), folder)
    data = gather(root, name, found, picture_bytes)
    data.about["made"] = made(root, name, found)
    write_page(data, folder / "report.html")
    return folder / "report.html"


def draw_extremes(root: Path, summary: Mapping[str, Any], folder: Path) -> None:
    """Draw the most and the least active units of every layer, where their patches were collected."""
    moments = root / str(summary.get("moments", "none"))
    for layer in track(summary["layers"], "drawing the most and the least active units"):
        files = [moments / f"{layer}.safetensors", moments / "patches" / f"{layer}.safetensors"]
        if all(file.is_file() for file in files):
            with left_out_if_damaged():
                measured = SavedMoments().load(files[0], layer, summary["nets"])
                save(activity_of(measured, load_patches(files[1])), folder, f"extremes-{layer}")


def made(root: Path, name: str, found: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """How the results came about: facts, the commands that make them again, and the resolved configurations."""
    first = next(iter(found.values()))
    facts = [("experiment", name), *sorted({("images", f"{s['images']:,}") for s in found.values()})]
    for layer, figures in first["layers"].items():
        told = f"{figures['units']:,.0f} units, {figures['samples']:,.0f} samples, {figures['blocks']:.0f} blocks of images"
        facts.append((layer, told))
    facts += list(first.get("versions", {}).items())
    nets = list(dict.fromkeys(pair["a"] for pair in first["pairs"]))
    runs = {net: root / "outputs" / "train" / name / net for net in nets}
    commands = [
        (run / "command.txt").read_text(errors="replace").strip()
        for run in runs.values()
        if (run / "command.txt").is_file()
    ]
    commands += [summary["command"] for summary in found.values() if "command" in summary]
    folders = {f"net {net}": run for net, run in runs.items()}
    folders |= {f"method {label}": root / "outputs" / "align" / name / label for label in found}
    configs = [(what, (folder / "config.yaml")) for what, folder in folders.items()]
    commands.append(command_of("report", [f"name={name}"]))
    return {
        "facts": facts,
        "commands": commands,
        "configs": [(what, file.read_text(errors="replace")) for what, file in configs if file.is_file()],
    }
