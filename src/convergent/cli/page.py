"""What of an experiment is there to be looked at: the report page, and pictures that belong to no single method."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from convergent.cli.command import command_of
from convergent.figures.grid import save
from convergent.progress import track
from convergent.report.gather import gather, left_out_if_damaged
from convergent.report.nouns import noun_of
from convergent.report.unit_pictures import activity_of
from convergent.report.write import write_page
from convergent.streaming.patches import load_patches
from convergent.streaming.saved_moments import SavedMoments


def write(root: Path, name: str, summaries: Mapping[str, Mapping[str, Any]], picture_bytes: float) -> Path:
    """Write an experiment's page into outputs/report/NAME, with pictures beside it; its file.

    It shows summary.json of each finished result by its label, and so many bytes of pictures at most.
    """
    folder = root / "outputs" / "report" / name
    draw_extremes(root, next(iter(summaries.values())), folder)
    data = gather(root, name, summaries, picture_bytes)
    data.about["made"] = made(root, name, summaries)
    write_page(data, folder / "report.html")
    return folder / "report.html"


def draw_extremes(root: Path, summary: Mapping[str, Any], folder: Path) -> None:
    """Draw the most and the least active units of every layer, where their patches were collected."""
    moments = root / str(summary.get("moments", "none"))
    for layer in track(summary["layers"], "drawing the most and the least active units"):
        files = [moments / f"{layer}.safetensors", moments / "patches" / f"{layer}.safetensors"]
        if all(file.is_file() for file in files):
            with left_out_if_damaged():
                patches = load_patches(files[1])
                if all(of.tile_ckhwd.numel() for of in patches.values()):  # language models' units have texts, no tiles
                    measured = SavedMoments().load(files[0], layer, summary["nets"])
                    save(activity_of(measured, patches), folder, f"extremes-{layer}")


def made(root: Path, name: str, summaries: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """How the results came about: facts, the commands that make them again, and the resolved configurations."""
    first = next(iter(summaries.values()))
    noun = noun_of([first])
    facts = [("experiment", name), *sorted({(noun, f"{of['images']:,}") for of in summaries.values()})]
    facts += [
        (layer, f"{of['units']:,.0f} units, {of['samples']:,.0f} samples, {of['blocks']:.0f} blocks of {noun}")
        for layer, of in first["layers"].items()
    ]
    facts += list(first.get("versions", {}).items())
    runs = {pair["a"]: root / "outputs" / "train" / name / pair["a"] for pair in first["pairs"]}
    commands = [text.strip() for _, text in _texts({net: run / "command.txt" for net, run in runs.items()})]
    commands += [summary["command"] for summary in summaries.values() if "command" in summary]
    configs = {f"net {net}": run / "config.yaml" for net, run in runs.items()}
    configs |= {f"method {label}": root / "outputs" / "align" / name / label / "config.yaml" for label in summaries}
    commands.append(command_of("report", [f"name={name}"]))
    return {"facts": facts, "commands": commands, "configs": _texts(configs)}


def _texts(files: Mapping[str, Path]) -> list[tuple[str, str]]:
    return [(what, file.read_text(errors="replace")) for what, file in files.items() if file.is_file()]
