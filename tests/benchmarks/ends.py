"""Tables of the whole pass and of sums wider than memory."""

import statistics
from collections.abc import Callable


def whole_table(records: list[dict], machine_of: Callable[[dict], str]) -> str:
    """Ratios of whole passes to the bare forward pass: medians over rounds."""
    machine, *runs = records
    table = [
        "| images | over the bare forward pass | the system's share | without saving | start | finish, per GB | "
        "saving, per GB on disk | peak before finish | at the end |",
        "| ---: |" + " ---: |" * 8,
    ]
    for images in dict.fromkeys(run["images"] for run in runs):
        of = {key: statistics.median(run[key] for run in runs if run["images"] == images) for key in runs[0]}
        system, saving = (of[part] / of["bare_s"] for part in ("system_s", "save_s"))
        table.append(
            f"| {images:,} | {of['ratio']:.2f} | {system:.2f} | {of['ratio'] - saving:.2f} | {of['start_s']:.1f} s | "
            f"{of['finish_s'] / of['gb']:.2f} s | {of['save_s'] / of['disk_gb']:.2f} s | {of['gb_before_the_end']:.1f} GB | "
            f"{of['gb_at_the_end']:.1f} GB |"
        )
    sums = f"{runs[0]['gb']:.1f} GB of sums, {runs[0]['disk_gb']:.1f} GB on disk; runs: {len(runs)}; "
    if machine["load"] > machine["cores"] + 1:
        sums += f"measured while {machine['load']:.0f} jobs shared {machine['cores']} cores, so the ratio is rough; "
    return "\n".join([*table, "", sums + machine_of(machine), ""])


def wider_table(records: list[dict], machine_of: Callable[[dict], str]) -> str:
    """What several passes take beside one, and what reading them does."""
    machine, one, several, pair, paper, comparison = records
    table = [f"| 2 x {machine['units']:,} units | memory allowed | passes | peak | time |",
             "| --- | ---: | ---: | ---: | ---: |"]  # fmt: skip
    for name, way, allowed in (("one pass", one, "any"), ("several", several, f"{machine['memory'] / 1e9:.1f} GB")):
        table.append(f"| {name} | {allowed} | {way['passes']} | {way['gb']:.1f} GB | {way['cpu_s']:.0f} s |")
    table.append(f"| reading the pair | | | {pair['gb']:.1f} GB | {pair['cpu_s']:.0f} s |")
    same = "bit by bit the same file" if comparison["same_bits"] else "another file"
    text = (
        f"{machine['images']:,} samples, one block, {several['disk_gb']:.1f} GB on disk; several passes give {same} as one; "
        f"peaks are beyond what was there before and count files that are being read, "
        f"reading's record itself is {pair['record_gb']:.1f} GB. "
        f"On paper, {paper['units']:,} units and {paper['images']:,} images: “{paper['plan']}”. "
    )
    return "\n".join([*table, "", text + machine_of(machine), ""])
