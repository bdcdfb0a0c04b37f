"""Tables of training and of GPUs, and what ImageNet costs: predicted from measured parts, each with its source.

What no machine has measured yet is assumed, and said to be; the first record of `make gpu` takes its place.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from convergent.core.packing import Packing
from convergent.nets.caffenet import CaffeNet
from convergent.streaming.capture import Capture

Records = Sequence[dict[str, Any]]

TRAIN, VAL, NETS = 1_281_167, 50_000, 4
CONV = [f"conv{number}" for number in range(1, 6)]
RECIPES = {  # epochs, images of a batch, precision, flop/s that a GPU is assumed to sustain
    "paper": (90, 256, "32-true", 150e12),
    "paper_fast": (40, 1024, "bf16-mixed", 400e12),
}
PASS_RATE = 50e12  # flop/s in float32, assumed
UNMEASURED = "Not measured yet: `make gpu`, on a machine that has one, measures and fills this in.\n"


def of_image() -> tuple[int, int]:
    """Floating-point operations of one image: forward in one net, and of the statistics of four, conv1 to conv5."""
    with torch.device("meta"):
        net, x = CaffeNet().eval(), torch.empty(1, 3, 227, 227)
    statistics = 0

    def add(_net: str, _layer: str, x_ncp: torch.Tensor) -> None:
        nonlocal statistics
        statistics += 2 * Packing.of([x_ncp.shape[1]] * NETS).multiplications * x_ncp[0, 0].numel()

    with FlopCounterMode(display=False) as counter, torch.no_grad():
        net(x)
    with torch.no_grad(), Capture({"net": net}, {layer: {"net": layer} for layer in CONV}, add) as capture:
        capture.run({"net": x})
    return counter.get_total_flops(), statistics


def source_of(line: dict[str, Any], name: str) -> str:
    """What a part was measured by, where and when."""
    hardware = line.get("gpu") or f"{line['processor']} ({line['capability']})"
    return f"measured: `{name}`, {hardware}, {line['date']}"


def rate_of(records: Records, recipe: str) -> float | None:
    """Images per second of one net's `fit` on one GPU by a recipe; None where no GPU was measured."""
    _, batch, precision, _ = RECIPES[recipe]
    wanted = {"nets": 1, "batch": batch, "precision": precision, "compile": False, "devices": 1, "device": "cuda"}
    return next((line["fit"] for line in records if wanted.items() <= line.items() and "fit" in line), None)


def costs_table(saved: dict[str, Records]) -> str:
    """What training four nets on ImageNet and measuring them takes."""
    forward, statistics = of_image()
    machine, *ways = saved["input"]
    read = {way["way"]: way["per_second"] for way in ways if "per_second" in way}
    of_input, gpu = source_of(machine, "input"), saved.get("gpu", ())
    seen = {recipe: TRAIN * epochs for recipe, (epochs, *_) in RECIPES.items()}
    known = {recipe: rate_of(gpu, recipe) for recipe in RECIPES}
    rates = {recipe: known[recipe] or rate / (3 * forward) for recipe, (*_, rate) in RECIPES.items()}
    counted = f"counted: {forward / 1e9:.2f} GFLOP forward, three times that in training"
    assumed = "assumed: " + " and ".join(f"{rate / 1e12:.0f}" for *_, rate in RECIPES.values()) + " TFLOP/s"
    of_rate = source_of(gpu[0], "gpu") if all(known.values()) else f"{counted}; {assumed}"
    hours = {recipe: seen[recipe] / rates[recipe] / 3600 for recipe in RECIPES}
    # from one stream four nets take their steps one after another
    disk = {recipe: rates[recipe] / NETS for recipe in RECIPES}
    rows = [
        ("images seen by one net", [f"{count / 1e6:.0f} million" for count in seen.values()], "epochs of the recipe"),
        ("training, images/s of one net on one GPU", [f"{rate:,.0f}" for rate in rates.values()], of_rate),
        ("GPU-hours for one net, for four", [f"{of:.2g}, {NETS * of:.2g}" for of in hours.values()], "the rows above"),
        ("hours for four nets on eight GPUs, two to a net", [f"{of / 2:.2g}" for of in hours.values()], "the same"),
        ("images/s that `seeds=[0,1,2,3]` reads on one GPU", [f"{rate:,.0f}" for rate in disk.values()], "a fourth"),
        ("cores that decode these from files", [f"{rate / read['folder_paper']:.1f}" for rate in disk.values()], of_input),
        ("cores that copy them from the store", [f"{rate / read['store_gather']:.1f}" for rate in disk.values()], of_input),
    ]  # fmt: skip
    table = ["| | `paper` | `paper_fast` | source |", "| --- | ---: | ---: | --- |"]
    table += [f"| {name} | {' | '.join(cells)} | {source} |" for name, cells, source in rows]
    caution = (
        "" if all(known.values()) else "**No GPU has been measured:** rates of arithmetic are assumed, and layers bound by "
        "memory (pooling, normalisation) taken to be free, so that times are lower bounds. "
    )  # fmt: skip
    arithmetic = VAL * (NETS * forward + statistics) / PASS_RATE
    own = VAL * NETS * forward / PASS_RATE
    text = (
        f"{caution}Preparing {TRAIN + VAL:,} images takes {(TRAIN + VAL) / read['prepare'] / 60:.0f} core-minutes "
        f"({of_input}). The statistics pass over {VAL:,} images and four nets is {arithmetic:.0f} s of arithmetic at "
        f"{PASS_RATE / 1e12:.0f} TFLOP/s in float32 (assumed), {own:.0f} s of it the nets' own, and "
        f"{VAL / read['store_one_by_one']:.0f} s of one core's reading from the store ({of_input})."
    )
    return "\n".join([*table, "", text, ""])


def training_rows(records: Records) -> list[str]:
    """A row for each training: images per second of its parts, and what `fit` reaches of them."""
    table = ["| nets | processes | precision | compiled | reader alone | steps alone | `fit` | of its parts |"]
    table.append("| ---: | ---: | --- | --- | ---: | ---: | ---: | ---: |")
    for line in records:
        if line.get("way") != "training":
            continue
        if "failed" in line:
            table.append(f"| | {line['devices']} | failed: {line['failed']} | | | | | |")
            continue
        reader, step = line["reader"], line["step"]
        parts = 1 / (1 / reader + 1 / step) if line["device"] == "cpu" else min(reader, step)
        cells = [line["nets"], line["devices"], line["precision"], "yes" if line["compile"] else "no"]
        cells += [f"{reader:,.0f}", f"{step:,.0f}", f"{line['fit']:,.0f}", f"{line['fit'] / parts:.0%}"]
        table.append(f"| {' | '.join(map(str, cells))} |")
    return table


def training_table(records: Records) -> str:
    """Images per second of training on one core."""
    machine, *every = records
    about = every[0]
    text = (
        f"CaffeNet of {about['width']:g} of its width, batches of {about['batch']}, each image seen by all nets; on one "
        f"core, where reading and steps take turns. One core of {machine['processor']} ({machine['capability']}), "
        f"torch {machine['torch']}, {machine['date']}."
    )
    return "\n".join([*training_rows(every), "", text, ""])


def gpu_table(records: Records) -> str:
    """The pass and training on a GPU."""
    if not records:
        return UNMEASURED
    machine, *every = records
    by_way = {line["way"]: line for line in every if line["way"] != "training"}
    table = [
        "| the pass | bare, ms/image | with statistics | ratio | finish, s | largest error |",
        "| --- |" + " ---: |" * 5,
    ]
    for way, line in by_way.items():
        if "failed" in line and way != "together":
            table.append(f"| {way}: {line['failed']} | | | | | |")
        elif way.startswith("pass "):
            off = by_way.get(way.replace("pass", "error"))
            cells = [f"{1e3 * line['bare_s']:.3f}", f"{1e3 * line['with_s']:.3f}", f"{line['ratio']:.2f}"]
            cells += [f"{line['finish_s']:.1f}", f"{off['most']:.0e}" if off and "most" in off else ""]
            table.append(f"| {way.removeprefix('pass ')} | {' | '.join(cells)} |")
    text = "CaffeNet, all layers, k = 2; errors of correlations beside float64 products of the same activations. "
    if "per_batch" in (waits := by_way.get("waits", {})):
        counts = ", ".join(f"{name} {count:g}" for name, count in waits["per_batch"].items())
        text += f"Waits for the GPU per batch, by a profile: {counts}. "
    if joint := by_way.get("together"):
        said = joint.get("failed") or f"moments within {joint['difference']:.0e} of one's"
        text += f"{joint['gpus']} GPUs by DDP: {said}. "
    text += (
        f"{machine['gpus']} x {machine['gpu']}, torch {machine['torch']}, cuDNN {machine['cudnn']}, {machine['date']}."
    )
    return "\n".join([*table, "", *training_rows(every), "", text, ""])
