"""Whether a report of CaffeNet's size stays small and opens at once: made-up results of 1,376 units x 4 nets, a browser.

python tests/benchmarks/report_page.py [FILE]; the file must stay below 60 MB, the answer be drawn and all be loaded
within 2 s. A FILE that is given is opened instead of a made-up one.
"""

import json
import statistics
import sys
import tempfile
import time
from itertools import permutations
from pathlib import Path

import torch
from playwright.sync_api import sync_playwright
from torch.nn.functional import interpolate

from convergent.cli.writing import save_alignments, tensors_of, write_rows
from convergent.core.alignment import Alignment
from convergent.core.layer_moments import LayerMoments
from convergent.core.moments import Moments
from convergent.core.pairs import Pair
from convergent.report.gather import gather
from convergent.report.write import write_page
from convergent.streaming.patches import Patches, save_patches
from convergent.streaming.receptive_fields import Span
from convergent.streaming.saved_moments import SavedMoments
from convergent.streaming.top_images import TopImages

UNITS = {"conv1": 96, "conv2": 256, "conv3": 384, "conv4": 384, "conv5": 256}
NETS = [f"seed={seed}" for seed in range(4)]
METHODS = {"matching": 1, "semimatching": 1, "sparse,alpha=0.1": 4, "spectral": 12, "least_squares": 60}


def photographs(n, side=64):
    """Little pictures with as much in them as photographs: noise of all scales."""
    x = torch.zeros(n, 3, side, side)
    for size in (2, 4, 8, 16, 32, 64):
        x += interpolate(torch.randn(n, 3, size, size), side, mode="bicubic") / size**0.5
    return (128 + 90 * x).clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1)


def moments(layer, q):
    u = 4 * q
    x_us = torch.randn(u, 300, dtype=torch.float64)
    s_uu = x_us @ x_us.T
    parts = [slice(i * q, (i + 1) * q) for i in range(4)]
    scatter = {(i, j): s_uu[None, parts[i], parts[j]] for i in range(4) for j in range(i, 4)}
    count_k = torch.tensor([300.0], dtype=torch.float64)
    return LayerMoments(layer, NETS, parts, count_k, torch.rand(1, u, dtype=torch.float64), scatter, 50_000)


def patches(q):
    field = (Span(-3, 8, 64), Span(-3, 8, 64))
    top = TopImages(torch.rand(q, 9) + 1, torch.randint(50_000, (q, 9)), torch.randint(100, (q, 9)))
    return Patches(top, field, 13, torch.stack([photographs(9) for _ in range(q)]))


def result(folder, used):
    rows, scalars = [], {}
    for layer, q in UNITS.items():
        tensors, total = {}, Moments.of(torch.rand(9, 2 * q))
        for a, b in permutations(NETS, 2):
            map_ab = torch.zeros(q, q)
            map_ab.scatter_(0, torch.rand(q, q).topk(min(used, q), 0).indices, torch.rand(min(used, q), q))
            pair = Pair(Moments.stack([total]), slice(0, q), slice(q, 2 * q), a, b)
            tensors |= tensors_of(Alignment(pair, map_ab), [])
            head = {"layer": layer, "a": a, "b": b, "active": 1, "partner": 0, "predictors": used, "best": 0}
            scores = ("r", "best_r", "excess", "r2_in_sample", "r2_held_out")
            table = torch.rand(q, len(scores)).tolist()
            rows += [head | {"unit": unit} | dict(zip(scores, values)) for unit, values in enumerate(table)]
        save_alignments(folder / "alignments" / f"{layer}.safetensors", tensors)
        scalars[layer] = {"mean_r": 0.5, "r2_held_out": 0.4, "r2_in_sample": 0.4, "predictors": used}
    write_rows(folder / "scores.csv", rows)
    pairs = [{"layer": layer, "a": a, "b": b, **of} for layer, of in scalars.items() for a, b in permutations(NETS, 2)]
    summary = {"images": 50_000, "layers": scalars, "pairs": pairs, "nets": NETS, "moments": "outputs/moments/made"}
    (folder / "summary.json").write_text(json.dumps(summary))
    return summary


def opened(file, times=7):
    """Seconds since the page was asked for, by its own clock: medians over browsers that are started afresh."""
    asked = """() => {
        const mark = (name) => performance.getEntriesByName(name)[0].startTime;
        const loaded = performance.getEntriesByType("navigation")[0].loadEventEnd;
        return [mark("first-contentful-paint"), loaded, mark("ready"), performance.now()];
    }"""
    seen = []
    with sync_playwright() as playwright:
        for _ in range(times):
            browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
            page = browser.new_page(viewport={"width": 1280, "height": 900})
            page.goto(file.as_uri())
            page.wait_for_selector("body[data-ready=yes]")
            page.wait_for_selector("#comparison .main-svg", state="attached")
            seen.append(page.evaluate(asked))
            browser.close()
    steps = ("answer drawn", "loaded", "tables live", "charts drawn")
    return ", ".join(f"{what} {statistics.median(ms) / 1000:.2f} s" for what, ms in zip(steps, zip(*seen)))


def main():
    if sys.argv[1:]:
        print(opened(Path(sys.argv[1]).resolve()))
        return
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as root:
        cache = Path(root) / "outputs" / "moments" / "made"
        (cache / "patches").mkdir(parents=True)
        for layer, q in UNITS.items():
            SavedMoments().save(moments(layer, q), cache / f"{layer}.safetensors")
            save_patches({net: patches(q) for net in NETS}, cache / "patches" / f"{layer}.safetensors")
        summaries = {
            label: result(Path(root) / "outputs" / "align" / "made" / label, n) for label, n in METHODS.items()
        }
        start = time.perf_counter()
        data = gather(Path(root), "made", summaries, 30e6)
        data.about["made"] = {"facts": [], "commands": [], "configs": []}
        file = Path(root) / "report.html"
        write_page(data, file)
        made = time.perf_counter() - start
        pictures = sum(len(text) for name, text in data.chunks.items() if name.startswith("patches"))
        print(f"made in {made:.0f} s, {file.stat().st_size / 1e6:.1f} MB, of these {pictures / 1e6:.1f} MB pictures")
        print(opened(file))


if __name__ == "__main__":
    main()
