"""Runs the benchmarks one after another, keeps their figures in docs/benchmarks.json and fills the documents' tables.

python tests/benchmarks/run.py                   # all of them: an hour or two on one core
python tests/benchmarks/run.py accuracy pass     # some; the others' figures stay as they are
python tests/benchmarks/run.py gpu               # what needs a GPU; elsewhere skipped, and no part of all of them
python tests/benchmarks/run.py readme            # only fill the tables anew
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import date
from pathlib import Path

from costs import costs_table, gpu_table, training_table
from ends import whole_table, wider_table

from convergent.report.readme import fill

PROJECT = Path(__file__).parents[2]
SAVED = PROJECT / "docs" / "benchmarks.json"
PEERS = os.environ.get("PEERS", "")  # a folder with packages to compare with, see alternatives.py

# One command of a benchmark per line.
PASS = (
    ("caffenet:2", "--images", "512"),
    ("caffenet:4", "--images", "512"),
    ("caffenet:2", "--images", "256", "--rotations"),
    ("resnet18:2", "--images", "256"),
    ("resnet50:2", "--images", "192", "--sample", "128"),
    ("resnet50:2", "--images", "192"),
)
TITLES = {
    "caffenet:2": "CaffeNet 227 x 227, all layers, k = 2",
    "caffenet:4": "the same, k = 4",
    "resnet18:2": "ResNet-18, block outputs, k = 2",
    "resnet50:2": "ResNet-50, block outputs, k = 2",
}
CASES = {
    "gaussian": "normal, mean 0 to 300 standard deviations",
    "gaussian_1e4": "normal, mean 10,000 to 50,000 standard deviations",
    "rectified": "rectified, active 50% to 0.1%",
    "nearly_constant": "nearly constant, active 0.001%",
    "lognormal": "lognormal, sigma 2",
    "drift": "mean drifting over 20 standard deviations",
    "half": "half precision",
}


WAYS = {
    "portable": "the pass, `torch.mm`",
    "onednn": "the pass, oneDNN",
    "naive_float32": "raw sums in float32",
    "raw_float64_sums": "raw products, float64 sums",
}


INPUT = {
    "folder": "`data=imagenet`: files, random resized crop",
    "folder_paper": "the same, squeezed to 256, random crop, as the paper",
    "folder_four": "the same, crops for four nets of each file",
    "pil_decode": "Pillow, decoding only",
    "torchvision_decode": "torchvision, decoding only",
    "torchvision": "torchvision, random resized crop",
    "webdataset": "webdataset, Pillow, random resized crop",
    "store_one_by_one": "the store, image by image through torchvision's transforms",
    "store": "`data=imagenet_store`: random crop, mirror, normalised on the processor",
    "store_mean": "the same, less the mean image",
    "store_gather": "the same up to the bytes that go to a GPU",
    "prepare": "`prepare.py`, which decodes and writes once",
}


def lines(script: str, *arguments: str) -> list[dict]:
    """What a benchmark prints, a record per line; its progress goes to the terminal."""
    command = [sys.executable, str(Path(__file__).with_name(script)), *arguments]
    print(" ".join(command[1:]), file=sys.stderr, flush=True)
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    records = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    if not records:
        sys.exit(f"{script} measured nothing (exit code {done.returncode}); the figures that were there stay.")
    return records


def measured_pass() -> Iterator[dict]:
    """The pass by plain torch.mm, and by the fastest backend where that is another one."""
    for case in PASS:
        machine, scalars = lines("statistics_pass.py", *case, "--products", "portable")
        yield machine | scalars
        if machine["auto"] != "portable":
            machine, scalars = lines("statistics_pass.py", *case, "--products", "auto")
            yield machine | scalars


def pass_table(records: list[dict]) -> str:
    """Ratios to the bare forward pass."""
    rows = {}
    for line in records:
        what = (
            TITLES[line["case"]]
            + ("" if line["sample"] == "every" else f", {line['sample']} random positions per image")
            + (", and the null's random rotations" if any(line.get("rotations", {}).values()) else "")
        )
        rows.setdefault(what, {})[line["products"]] = line
    table = ["| nets | `torch.mm` | fastest backend | images |", "| --- | ---: | ---: | ---: |"]
    for what, ways in rows.items():
        cells = [f"{ways[way]['whole']:.2f}" if way in ways else "the same" for way in ("portable", "auto")]
        table.append(f"| {what} | {cells[0]} | {cells[1]} | {ways['portable']['images']:,} |")
    return "\n".join([*table, "", machine_of(records[0]), ""])


def group_of(case: str) -> str:
    """The row of the table that a case of the accuracy suite belongs to."""
    if case.startswith("gaussian"):
        return "gaussian_1e4" if "e4" in case else "gaussian"
    return "half" if "float16" in case else next(name for name in CASES if case.startswith(name))


def accuracy_table(records: list[dict]) -> str:
    """Largest errors of a correlation."""
    machine, *cases, _ = records
    ways = {way: title for way, title in WAYS.items() if way in cases[0]}
    table = [f"| activations | {' | '.join(ways.values())} |", "| --- |" + " ---: |" * len(ways)]
    for group, title in CASES.items():
        of_group = [case for case in cases if group_of(case["case"]) == group]
        if of_group:
            worst = [max(case[way] for case in of_group) for way in ways]
            table.append(f"| {title} | {' | '.join(f'{error:.0e}' for error in worst)} |")
    return "\n".join([*table, "", f"{cases[0]['samples']:,} samples; {machine_of(machine)}", ""])


def alternatives_table(records: list[dict]) -> str:
    """Time and memory of what one would use instead."""
    machine, *ways, flat, _ = records
    table = ["| way | time | peak memory | error |", "| --- | ---: | ---: | ---: |"]
    ours = next(way for way in ways if way["way"] == "ours_float64")
    for way in ways:
        if way["way"] != "storing":
            memory = "" if way["peak_mb"] is None else f"{way['peak_mb']:,.0f} MB"
            name = way["way"] if "." in way["way"] else way["way"].replace("_", " ")
            table.append(f"| {name} | {way['cpu_s'] / ours['cpu_s']:.2f} | {memory} | {way['max_error']:.0e} |")
    flat_mb = ", ".join(f"{mb:.0f}" for mb in flat["peak_mb_by_samples"]["ours_float64"].values())
    text = (
        f"{machine['samples']:,} samples, 2 x 256 units; time over the first row's ({ours['cpu_s']:.1f} s of one core); "
        f"peak memory of the first row with 50,000, 200,000 and 800,000 samples: {flat_mb} MB; "
    )
    return "\n".join([*table, "", text + machine_of(machine), ""])


def spectral_table(records: list[dict]) -> str:
    """Time and stability of spectral clustering, ours and scikit-learn's."""
    machine, *cases, _ = records
    sizes = list(dict.fromkeys(case["units"] for case in cases))
    headings = "".join(f" 2 x {units:,} units | the same |" for units in sizes)
    table = [f"| way |{headings}", "| --- |" + " ---: |" * (2 * len(sizes))]
    for way in dict.fromkeys(case["way"] for case in cases):
        of_way = [next(case for case in cases if (case["way"], case["units"]) == (way, units)) for units in sizes]
        cells = "".join(f" {case['cpu_s']:.2g} s | {case['rand']:.2f} |" for case in of_way)
        table.append(f"| {way} |{cells}")
    return "\n".join([*table, "", f"scikit-learn {machine['sklearn']}; {machine_of(machine)}", ""])


def mutual_information_table(records: list[dict]) -> str:
    """Seconds of all pairs of units, ours and scikit-learn's."""
    machine, *bins, _ = records
    table = [
        "| bins | all pairs, s | scikit-learn, s | times faster | difference |",
        "| ---: | ---: | ---: | ---: | ---: |",
    ]
    for line in bins:
        theirs = line["cpu_s"]["sklearn_extrapolated"]
        cells = f"{line['ours_s']:.2f} | {theirs:.0f} | {line['sklearn_over_ours']:,.0f} | {line['max_error']:.0e}"
        table.append(f"| {line['bins']} | {cells} |")
    setting = f"{machine['samples']:,} samples, scikit-learn extrapolated from 30 pairs, product {machine['counts']}; "
    return "\n".join([*table, "", setting + machine_of(machine), ""])


def similarity_table(records: list[dict]) -> str:
    """Seconds, memory and difference of each measure, ours from moments and a package's from samples."""
    machine, *every, _ = records
    table = ["| samples | measure | ours, s | MB | package | its s | MB | difference |",
             "| ---: | --- | ---: | ---: | --- | ---: | ---: | ---: |"]  # fmt: skip
    for line in every:
        if "package" in line:
            theirs = (
                f"{line['package']} | {line['their_seconds']:.2g} | {line['their_mb']:.0f} | {line['difference']:.0e}"
            )
            head = f"{line['samples']:,} | `{line['measure']}`"
            table.append(f"| {head} | {line['seconds']:.1g} | {line['mb']:.0f} | {theirs} |")
    making = ", ".join(f"{line['seconds']:.2f} s" for line in every if line.get("measure") == "moments")
    (million,), (null,) = ([line for line in every if name in line] for name in ("rsa_samples", "null"))
    whole = ", ".join(
        f"{line['seconds']:.2g} s for 2 x {line['all_measures_units']:,} units"
        for line in every
        if "all_measures_units" in line
    )
    text = (
        f"2 x {machine['units']} units, whose moments take {making}. After a pass RSA over {million['rsa_samples']:,} "
        f"samples of {million['units']:,} units takes {million['seconds'] * 1e3:.0f} ms; CKA's null in closed form "
        f"{null['seconds'] * 1e3:.1f} ms, its 5,000 permutations (500 samples, extrapolated) {null['their_seconds']:.0f} s, "
        f"and its mean is {null['errors']:.1f} of their standard errors from theirs. All measures but regression and those "
        f"of several blocks: {whole}; "
    )
    return "\n".join([*table, "", text + machine_of(machine), ""])


def sparse_table(records: list[dict]) -> str:
    """The lasso beside scikit-learn's and beside the paper's SGD."""
    machine, *cases, _ = records
    table = ["| units | condition | ours | largest gap | scikit-learn, over ours | timed on |"]
    table.append("| ---: |" + " ---: |" * 5)
    for case in (case for case in cases if "units" in case):
        part = "" if case["targets"] == case["units"] else f", {case['targets']} targets"
        table.append(
            f"| {case['units']:,}{part} | {case['condition']:,.0f} | {case['ours_s']:.2f} s | {case['gap']:.0e} | "
            f"{case['sklearn_over_ours']:.1f} | {case['sklearn_timed_on']} targets |"
        )
    table += ["", "| alpha | ours | SGD, over ours | objective: ours | SGD's | zeros: ours | SGD's |"]
    table.append("| ---: |" + " ---: |" * 6)
    for case in (case for case in cases if "sgd_units" in case):
        zeros = (f"{case['ours_zeros']:.0%}", f"{case['sgd_zeros']:.0%}")
        table.append(
            f"| {case['alpha']} | {case['ours_s']:.3f} s | {case['sgd_over_ours']:,.0f} | {case['ours_objective']:.4f} | "
            f"{case['sgd_objective']:.4f} | {' | '.join(zeros)} |"
        )
    return "\n".join([*table, "", machine_of(machine), ""])


NOT_IN_DEMO = ("hierarchical_spectral", "sparse_path", "spectral_paper")


def alignment_table(records: list[dict]) -> str:
    """Seconds of each method of a sweep at CaffeNet's size, of all of them, and of the sweep."""
    machine, *lines_of_methods = records
    seconds = {line["method"]: line["wall_s"] for line in lines_of_methods}
    rows = {f"`{name}`": seconds[name] for name in sorted(seconds)}
    rows["sum of those of `make demo`"] = sum(of for name, of in seconds.items() if name not in NOT_IN_DEMO)
    rows["sum"] = sum(seconds.values())
    rows[f"the sweep, {machine['jobs']} methods at a time"] = machine["wall_s"]
    table = ["| method | seconds |", "| --- | ---: |", *(f"| {name} | {of:,.0f} |" for name, of in rows.items())]
    about = f"{machine['pairs']} pairs of nets, both directions; {machine['cpu_s']:,.0f} s of processors' time; "
    own = machine["cpu_s"] / machine["wall_s"]  # cores that the sweep had to itself
    busy = "" if own > 0.9 * machine["jobs"] else f"other jobs left it {own:.1f} of {machine['cores']} cores; "
    return "\n".join([*table, "", f"{about}{busy}{machine_of(machine)}", ""])


def codes_table(records: list[dict]) -> str:
    """Sparse products beside dense ones, and matching on their record."""
    machine, *cases, _ = records
    table = [
        "| features | active | frequencies | sparse, s | float64, over it | float32, over it | matching, s | gap |"
    ]
    table.append("| ---: | ---: | --- |" + " ---: |" * 5)
    for case in cases:
        faster = (
            f"{case['over_float64']:.0f} | {case['over_float32']:.0f} | {case['matching_s']:.1f} | {case['gap']:.0e}"
        )
        table.append(f"| {case['features']:,} | {case['active']} | {case['kind']} | {case['sparse']:.2f} | {faster} |")
    samples = " or ".join(f"{samples:,}" for samples in dict.fromkeys(case["samples"] for case in cases))
    worst = max(case["error"] for case in cases)
    text = f"{samples} samples; largest difference of a sum, relative to the features' own, {worst:.0e}; "
    return "\n".join([*table, "", text + machine_of(machine), ""])


def input_table(records: list[dict]) -> str:
    """Images per second and core of every way to feed a net."""
    machine, *ways, _ = records
    rates = {way["way"]: way["per_second"] for way in ways if "per_second" in way}
    share, four = (next(way for way in ways if way["way"] == name) for name in ("share", "four"))
    table = ["| way | images/s/core | over files |", "| --- | ---: | ---: |"]
    for way, title in INPUT.items():
        if way in rates:
            table.append(f"| {title} | {rates[way]:,.0f} | {rates[way] / rates['folder']:.1f} |")
    busy = f"measured while {machine['load']:.0f} jobs shared {machine['cores']} cores, which slows all of it down; "
    busy = busy if machine["load"] > machine["cores"] + 1 else ""
    text = (
        f"A quarter-width CaffeNet fed by the store reaches {share['of_net']:.0%} of its speed on synthetic images; four "
        f"tiny nets on one stream of files take {four['over_one']:.2f} times as long as one. JPEGs of 500 x 375 pixels, "
        f"{machine['jpeg_kb']:.0f} kB; {busy}torchvision {machine['torchvision']}; "
    )
    return "\n".join([*table, "", text + machine_of(machine), ""])


def machine_of(line: dict) -> str:
    """Hardware and versions in words."""
    return f"one core of {line['processor']} ({line['capability']}), torch {line['torch']}, {line['date']}."


BENCHMARKS = {
    "pass": (measured_pass, pass_table),
    "whole": (lambda: lines("whole_pass.py", "--rounds", "3"), lambda records: whole_table(records, machine_of)),
    "wider": (lambda: lines("wider_than_memory.py"), lambda records: wider_table(records, machine_of)),
    "accuracy": (lambda: lines("accuracy.py"), accuracy_table),
    "alternatives": (lambda: lines("alternatives.py", "--rounds", "3", "--peers", PEERS), alternatives_table),
    "spectral": (lambda: lines("spectral.py"), spectral_table),
    "mutual_information": (lambda: lines("mutual_information.py", "--rounds", "3"), mutual_information_table),
    "similarity": (lambda: lines("similarity.py", "--peers", PEERS), similarity_table),
    "sparse": (lambda: lines("sparse_prediction.py"), sparse_table),
    "alignment": (lambda: lines("alignment.py"), alignment_table),
    "codes": (lambda: lines("sparse_codes.py"), codes_table),
    "input": (lambda: lines("input.py"), input_table),
    "training": (lambda: lines("training.py"), training_table),
}
ON_GPU = {"gpu": (lambda: lines("gpu.py"), gpu_table)}


def without_gpu() -> str:
    """Why nothing can be measured on a GPU here; empty where it can."""
    import torch

    return "" if torch.cuda.is_available() else "torch finds no CUDA device here, so nothing is measured or written"


def main() -> None:
    """Run what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("benchmarks", nargs="*", choices=[*BENCHMARKS, *ON_GPU, "readme"], default=list(BENCHMARKS))
    saved = json.loads(SAVED.read_text()) if SAVED.exists() else {}
    every = BENCHMARKS | ON_GPU
    for name in parser.parse_args().benchmarks:
        if name in ON_GPU and (reason := without_gpu()):
            print(f"{name} skipped: {reason}", file=sys.stderr)
            return
        if name != "readme":
            records: list[dict] = []
            for line in every[name][0]():
                records.append(line | ({} if records else {"date": date.today().isoformat()}))
                saved[name] = records
                SAVED.write_text(json.dumps(saved, indent=1) + "\n")  # what is measured stays if the next is stopped
    texts = {"benchmark gpu": gpu_table(()), "benchmark costs": costs_table(saved)}
    texts |= {f"benchmark {name}": every[name][1](records) for name, records in saved.items()}
    for file in fill(PROJECT, texts):
        print(f"tables written into {file}", file=sys.stderr)


if __name__ == "__main__":
    main()
