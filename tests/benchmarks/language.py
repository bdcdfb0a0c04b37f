"""Trains the nets of experiment=language, aligns them, and fills docs/language.md: python tests/benchmarks/language.py.

`--cost` measures what the pass over all MLP layers of two of them costs over their bare forward pass, in one run; `--fill`
fills the page from results that are there.
"""

import argparse
import json
import shlex
import subprocess
import sys
import time
from pathlib import Path

import torch
from omegaconf import OmegaConf

from convergent.nets.decoder import decoder
from convergent.report.readme import fill
from convergent.report.tables import markdown
from convergent.streaming.capture import Input, run
from convergent.streaming.reading import Reading
from convergent.streaming.statistics_pass import StatisticsPass

PROJECT = Path(__file__).parents[2]
SAME = "analysis=[] logger=csv reading.blocks=16"
BOTH = (
    "method=matching evaluation.rotations=2 reading.sample=32 layers=[transformer.h.*.mlp.act,transformer.h.*] "
    f"similarity=[] figure=[] {SAME}"
)
MLP = "transformer.h.*.mlp.act"
COMMANDS = (
    "train -m experiment=language seed=0,1,2,3 hydra.launcher.n_jobs=2 logger=csv",
    f"align experiment=language label=layers {BOTH}",
    f"align experiment=language label=untrained nets=untrained pictures=null {BOTH}",
    f"align experiment=language label=population method=semimatching +populations.mlp='{MLP}' evaluation.rotations=1 "
    f"evaluation.nulls=[rotated,rotated_after] pictures=null similarity=[] figure=[depth] reading.sample=16 {SAME}",
    "align experiment=language label=all-layers method=semimatching pairs=all_layers evaluation.nulls=[] pictures=null "
    f"evaluation.intervals=false similarity=[cka] figure=[layer_heatmaps] reading.sample=16 {SAME}",
)


def words(layer):
    number = next(part for part in layer.split(".") if part.isdigit())
    return f"MLP {number}" if layer.endswith("act") else f"residual stream {number}"


def ends(of, name, style=".3f"):
    """A scalar with its intervals over documents and over nets."""
    over = [[of.get(f"{name}{kind}{end}") for end in ("_low", "_high")] for kind in ("", "_nets")]
    return f"{of[name]:{style}} ({'; '.join(between(*each, style) for each in over)})"


def between(low, high, style):
    if low is None:
        return "-"
    least, most = f"{low:{style}}", f"{high:{style}}"
    return f"{least.removesuffix('%')} to {most}"


def table(trained, untrained):
    headings = "layer", "units", "r", "rotated", "excess (95% over documents; nets)", "above 95%", "R² held out"
    rows = [(*headings, "untrained: r", "rotated")]
    for layer, of in trained["layers"].items():
        before = (untrained or {"layers": {layer: {}}})["layers"][layer]
        units = next(pair["units"] for pair in trained["pairs"] if pair["layer"] == layer)
        chance = [f"{before[name]:.3f}" if before else "" for name in ("mean_best_r", "mean_best_r_rotated")]
        r = [f"{of[name]:.2f}" for name in ("mean_best_r", "mean_best_r_rotated")]
        more = ends(of, "excess"), f"{of['above_rotated']:.0%}", f"{of['r2_held_out']:.2f}"
        rows.append((words(layer), str(units), *r, *more, *chance))
    return markdown(rows) + "\n"


def partners(trained):
    nets = len(next(iter(trained["across"].values()))["found_in"])
    rows = [("layer", *(f"in {m} others (documents; nets)" for m in range(nets)))]
    for layer, of in trained["across"].items():
        names = [name for name in of if name.startswith("found_in")]
        rows.append(
            (words(layer), *(ends({name: of[name][m] for name in names}, "found_in", ".0%") for m in range(nets)))
        )
    return markdown(rows) + "\n"


def of_population(summary):
    mlp, across = summary["layers"]["mlp"], summary["across"]["mlp"]
    return (
        f"Among the {summary['pairs'][0]['units']} units of all MLP layers of another net a neuron's best "
        f"partner has r = {mlp['mean_best_r']:.2f}, with that net rotated before its nonlinearities "
        f"{mlp['mean_best_r'] - mlp['excess']:.2f}, after them {mlp['mean_best_r'] - mlp['excess_after']:.2f}: excess "
        f"{ends(mlp, 'excess')} and {mlp['excess_after']:.3f}. Universal by Gurnee et al.'s criterion, more than 0.5 above "
        f"rotated activations in the mean over the other nets, are {across['universal']:.1%} of the neurons.\n"
    )


def fill_page(root):
    aligned, trainings = root / "outputs" / "align" / "language", root / "outputs" / "train" / "language"
    files = {folder.name: folder / "summary.json" for folder in aligned.iterdir() if (folder / "done").exists()}
    summaries = {label: json.loads(file.read_text()) for label, file in files.items()}
    trained = summaries["layers"]
    losses = [json.loads(file.read_text())["val/loss"] for file in trainings.glob("*/metrics.json")]
    text = (
        f"Four nets, held-out loss {min(losses):.2f} to {max(losses):.2f} nats a token; {trained['pairs'][0]['samples']:,} "
        f"tokens of {trained['images']:,} contexts."
    )
    texts = {
        "language": f"{text}\n\n{table(trained, summaries.get('untrained'))}",
        "language partners": partners(trained),
    }
    if "population" in summaries:
        texts["language population"] = of_population(summaries["population"])
    figures = [
        *(aligned / "layers" / "figures").glob("contexts-*.png"),
        aligned / "population" / "figures" / "depth.png",
        aligned / "all-layers" / "figures" / "layer_heatmaps.png",
    ]
    fill(PROJECT, texts)
    for figure in figures:  # under names of their own: other experiments have such figures too
        if (place := PROJECT / "docs" / "images" / f"language-{figure.name}").exists() and figure.exists():
            place.write_bytes(figure.read_bytes())


def cost(sample, batches=33, size=16, contexts=100_000):
    """Seconds of the pass over seconds of the bare one: one thread, batches of each by turns, without the first."""
    torch.set_num_threads(1)
    config = OmegaConf.load(PROJECT / "conf" / "net" / "gpt.yaml").module.config
    config = {**OmegaConf.to_container(config, resolve=False), "vocab_size": 1024, "n_positions": 128}
    nets = {name: decoder(config).eval() for name in "ab"}
    token_np, mask_np = torch.randint(1024, (size, 128)), torch.ones(size, 128, dtype=torch.bool)
    seen = dict.fromkeys(nets, Input(lambda net: net(token_np), mask_np))
    reading = Reading(sample, blocks=64, drop=[0])
    seconds = []
    with torch.inference_mode():
        statistics_pass = StatisticsPass(nets, ["transformer.h.*.mlp.act"], contexts, seen, reading)
        order = statistics_pass.deal.block(torch.arange(contexts)).argsort(
            stable=True
        )  # block after block, as it is read
        for image_n in order[: batches * size].split(size):
            start = time.process_time()
            run(nets, seen)
            bare = time.process_time() - start
            start = time.process_time()
            with statistics_pass:
                statistics_pass.begin(image_n, mask_np)
                run(nets, seen)
                statistics_pass.end()
            seconds.append((time.process_time() - start, bare))
    measured, bare = (sum(of) for of in zip(*seconds[1:]))
    return measured / bare


def main():
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--root", type=Path, default=PROJECT)
    options.add_argument("--cost", action="store_true")
    options.add_argument("--fill", action="store_true")
    given = options.parse_args()
    root = given.root
    if given.cost:
        for sample in ("every", 64, 32):
            print(f"sample={sample}: {cost(sample):.2f}", flush=True)
        return
    for command in COMMANDS if not given.fill else ():
        script, *arguments = shlex.split(command)
        subprocess.run([sys.executable, PROJECT / "src" / f"{script}.py", *arguments, f"root={root}"], check=True)
    fill_page(root)


if __name__ == "__main__":
    main()
