"""The README's commands as their user would type them, and what a mistake is answered with."""

import csv
import fcntl
import functools
import json
import platform
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from filelock import FileLock
from hydra.utils import instantiate
from omegaconf import OmegaConf
from safetensors.torch import load_file, save_file

from convergent.function.function_pass import FunctionPass
from convergent.function.stitches import MAPS
from convergent.storage.csv_files import read_rows
from convergent.streaming.saved_moments import SavedMoments
from forked import Forked, both_nodes

pytestmark = pytest.mark.command

SMALL = ("epochs=3", "net.module.widths=[6,6,6,8]")
BARE = ("figure=[]", "pictures=null", "logger=csv")
JUDGED = ("figure=[function]", *BARE[1:])


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A folder with a space, in which two small nets have been trained and aligned as the README says."""
    return tmp_path_factory.mktemp("a folder")


@functools.cache
def measured_in(root):
    """The folder of the trained nets' moments: the first that was made, for the nulls' comes later."""
    folders = [path.parent for path in (root / "outputs" / "moments").glob("*/fc1.safetensors")]
    return min(folders, key=lambda folder: (folder / "fc1.safetensors").stat().st_mtime_ns)


@pytest.fixture(scope="module")
def trained(root, script):
    output = Forked(*script("train", "seeds=[0,1]", *SMALL, f"root='{root}'"), cwd=root).output()
    assert output.count(": val/acc_top1") == 2
    return root / "outputs" / "train" / "digits-convnet"


@pytest.fixture(scope="module")
def aligned(trained, root, script):
    Forked(*script("align", f"root='{root}'")).output()
    few = ("method=semimatching", "figure=[curves]", "hydra.verbose=true")
    output = Forked(*script("align", *few, f"root='{root}'")).output()
    assert "Moments of 4 layers found in" in output  # the second method reuses the pass of the first
    return root / "outputs" / "align" / "digits-convnet"


def test_a_run_folder_holds_everything_readable_by_anybody(trained):
    for seed in (0, 1):
        folder = trained / f"seed={seed}"
        there = {path.name for path in folder.iterdir()}
        assert {"config.yaml", "weights.safetensors", "last.ckpt", "metrics.json", "done"} <= there
        assert OmegaConf.load(folder / "config.yaml").seed == seed
        assert json.loads((folder / "metrics.json").read_text())["val/acc_top1"] > 0.2
        torch.load(folder / "last.ckpt", weights_only=True)  # plain containers only
    weights = [load_file(trained / f"seed={seed}" / "weights.safetensors") for seed in (0, 1)]
    assert not torch.equal(weights[0]["conv1.0.weight"], weights[1]["conv1.0.weight"])


def test_what_is_done_is_said_and_not_done_again(trained, root, script):
    before = (trained / "seed=0" / "weights.safetensors").stat().st_mtime_ns
    output = Forked(*script("train", "seed=0", *SMALL, f"root='{root}'")).output()
    assert output.startswith("digits-convnet seed=0: done already, val/acc_top1")
    assert (trained / "seed=0" / "weights.safetensors").stat().st_mtime_ns == before


def test_another_configuration_of_a_done_run_is_refused(trained, command, root):
    code, _, err = command("train", "seed=0", *SMALL[1:], "epochs=2", f"root='{root}'")
    assert code == 1
    assert err.count("\n") == 1
    assert "epochs is 3 there and 2 here" in err


def test_an_alignment_folder_is_whole(aligned):
    for method in ("matching", "semimatching"):
        folder = aligned / method
        summary = json.loads((folder / "summary.json").read_text())
        assert set(summary["layers"]) == {"conv1", "conv2", "conv3", "fc1"}
        assert len(summary["pairs"]) == 4 * 2  # both directions
        assert summary["images"] == 1797
        assert summary["pairs"][0]["samples"] == 1797 * 64
        with (folder / "scores.csv").open() as file:
            rows = list(csv.DictReader(file))
        assert len(rows) == 2 * (6 + 6 + 6 + 8)
        figures = {path.name for path in (folder / "figures").iterdir()}
        assert {"curves.png", "curves.pdf"} <= figures
        saved = load_file(folder / "alignments" / "conv1.safetensors")
        shape = tuple(saved["seed=0 to seed=1/shape"].tolist())
        index_ab, weight = (saved[f"seed=0 to seed=1/{name}"] for name in ("index_ab", "weight"))
        map_ab = torch.sparse_coo_tensor(index_ab, weight, shape, check_invariants=True)
        assert map_ab.to_dense().shape == (6, 6)
        first = [row for row in rows if (row["layer"], row["a"]) == ("conv1", "seed=0")]
        assert [float(row["r"]) for row in first] == pytest.approx(map_ab.to_dense().sum(0).tolist(), abs=1e-5)


def test_everything_is_drawn(aligned):
    figures = {path.name for path in (aligned / "matching" / "figures").iterdir()}
    assert {"correlations-conv1.png", "correlations-fc1.pdf", "curves.png", "means.pdf"} <= figures


def test_the_pass_was_read_once_for_both_methods(aligned, root):
    assert len(list((root / "outputs" / "moments").iterdir())) == 2  # and one of shuffled images


def test_two_processes_align_to_the_same_bytes_as_one(aligned, root, command):
    for label, jobs in (("one", 1), ("two", 2)):
        options = ("method=spectral", f"label={label}", f"n_jobs={jobs}", "layers=[conv1,fc1]", "figure=[clusters]")
        assert command("align", *options, *BARE[1:], f"root='{root}'")[0] == 0
    one, two = (aligned / label for label in ("one", "two"))
    files = sorted(path.relative_to(one) for path in one.rglob("*") if path.is_file())
    assert files == sorted(path.relative_to(two) for path in two.rglob("*") if path.is_file())
    for file in files:
        if file.name not in ("summary.json", "config.yaml", "command.txt"):
            assert (one / file).read_bytes() == (two / file).read_bytes(), file
    summaries = [json.loads((folder / "summary.json").read_text()) for folder in (one, two)]
    assert all(summaries[0][name] == summaries[1][name] for name in ("layers", "pairs", "across"))


def test_what_chance_gives_stands_beside_every_mean(aligned):
    summary = json.loads((aligned / "matching" / "summary.json").read_text())
    for pair in summary["pairs"]:
        assert pair["mean_r_low"] <= pair["mean_r"] <= pair["mean_r_high"]
        assert pair["mean_r_shuffled"] < pair["mean_r"]
        assert 0 <= pair["agreement"] <= 1
        assert 0 <= pair["best_r_below_half"] <= 1
        assert pair["mean_best_r"] >= pair["mean_r"]
    last = [pair for pair in summary["pairs"] if pair["layer"] == "fc1"]
    assert all(pair["mean_r_shuffled"] < 0.3 for pair in last)


def test_untrained_nets_are_those_that_the_training_began_with(trained, root, command):
    code, _, err = command("align", "nets=untrained", "layers=[conv1]", "evaluation.nulls=[]", f"root='{root}'", *BARE)
    assert code == 0, err
    label = "matching,layers=[conv1],nets=untrained,nulls=[]"
    summary = json.loads((root / "outputs" / "align" / "digits-convnet" / label / "summary.json").read_text())
    assert {pair["a"] for pair in summary["pairs"]} == {"seed=0@epoch=0", "seed=1@epoch=0"}
    from convergent.training.runs import Run

    folder = root / "outputs" / "train" / "began" / "seed=0"
    assert command("train", "epochs=0", "seed=0", SMALL[1], "name=began", f"root='{root}'", "logger=csv")[0] == 0
    began, untrained = load_file(folder / "weights.safetensors"), Run(trained / "seed=0", 0).net().state_dict()
    assert all(torch.equal(began[name], untrained[name]) for name in began)


def test_the_moments_are_those_of_the_nets_on_the_images(aligned, trained, root):
    from convergent.cli.train import build_data
    from convergent.core.moments import Moments
    from convergent.data.images import ImageData
    from convergent.training.runs import Run

    run = Run(trained / "seed=1")
    data: ImageData = build_data(run.config)
    x = torch.stack([data.measured[image][0] for image in range(1797)])
    with torch.no_grad():
        expected = Moments.of(run.net().conv1(x).transpose(0, 1).flatten(1).T)
    ours = (
        SavedMoments().load(measured_in(root) / "conv1.safetensors", "conv1", ["seed=0", "seed=1"]).moments([1]).total
    )
    assert (ours.corr_uu - expected.corr_uu).abs().max() < 1e-6  # the forward pass itself varies with the batch


def test_the_report_lists_every_method(aligned, root, command):
    code, out, _ = command("report", f"root='{root}'")
    assert code == 0
    table = (root / "outputs" / "report" / "digits-convnet" / "table.md").read_text()
    assert table.count("| matching |") == table.count("| semimatching |") == 8  # in two tables
    assert "standard deviation over the ordered pairs of nets, which share nets" in table
    assert "| R² held out | median |" in table
    assert "no score is clipped" in table
    assert (root / "outputs" / "report" / "digits-convnet" / "comparison.png").exists()
    assert "semimatching" in out


def test_clusters_are_kept_and_drawn_and_reported_beside_the_other_methods(aligned, root, command):
    options = ("method=spectral", "evaluation.nulls=[rotated]", "layers=[fc1]", f"root='{root}'", *BARE[1:])
    assert command("align", *options, "figure=[clusters,similarity,composition,subspaces]")[0] == 0
    folder = aligned / "spectral,layers=[fc1],nulls=[rotated]"
    pair = json.loads((folder / "summary.json").read_text())["pairs"][0]
    assert pair["solver_clusters"] >= 1
    assert 0 <= pair["similarity_between"] <= 1
    assert pair["r2_held_out_rotated"] <= 1
    with (folder / "clusters.csv").open() as file:
        rows = list(csv.DictReader(file))
    labels = load_file(folder / "alignments" / "fc1.safetensors")
    sizes = [int(row["units_a"]) for row in rows if row["a"] == "seed=0"]
    assert sizes == torch.bincount(labels["seed=0 to seed=1/labels_a"].clamp(min=-1) + 1)[1:].tolist()[: len(sizes)]
    figures = {path.name for path in (folder / "figures").iterdir()}
    assert {"clusters-fc1.png", "similarity.png", "composition.pdf", "subspaces.pdf"} <= figures
    shutil.copytree(folder, aligned / "other")  # another method that clusters
    code, out, _ = command("report", f"root='{root}'")
    assert code == 0
    assert "adjusted Rand" in out
    report = root / "outputs" / "report" / "digits-convnet"
    assert (report / "methods.png").exists()
    table = (report / "table.md").read_text()
    assert "| fc1 | other | spectral,layers=[fc1],nulls=[rotated] | 1,797 |" in table


def flipped(content):
    """The bytes of a file with one bit in the middle flipped."""
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


@pytest.mark.parametrize(
    ("damage", "label"),
    [(lambda whole: whole[: len(whole) // 2], "again"), (flipped, "once-more")],
    ids=["cut", "flipped bit"],
)
def test_damaged_moments_are_measured_again(aligned, root, command, caplog, damage, label):
    folder = measured_in(root)
    file, left = folder / "conv2.safetensors", folder / f".conv3.safetensors.{platform.node()}.999999999"
    tensors = {key: tensor.clone() for key, tensor in load_file(file).items()}
    file.write_bytes(damage(file.read_bytes()))
    left.touch()  # of a killed write
    assert command("align", "evaluation.nulls=[]", f"label={label}", f"root='{root}'", *BARE)[0] == 0
    assert "conv2.safetensors is damaged" in caplog.text
    assert "measuring it again" in caplog.text
    assert not left.exists()
    again = load_file(file)
    assert all(torch.allclose(again[key], tensor, rtol=1e-5, atol=1e-7) for key, tensor in tensors.items())


def test_mutual_information_is_counted_beside_the_moments_that_are_there(aligned, root, command):
    drawn = "figure=[nats,densities,curves,means]"
    code, _, err = command(
        "align", "method=mutual_information", "evaluation.folds=3", f"root='{root}'", *BARE[1:], drawn
    )
    assert code == 0, err
    counted = root / "outputs" / "moments"
    assert {path.parent.parent for path in counted.glob("*/histograms,bins=10,samples=1000000,folds=3/fc1.*")} == {
        path.parent for path in counted.glob("*/fc1.safetensors")
    }  # images as they are, and shuffled
    folder = aligned / "mutual_information,folds=3"
    row = json.loads((folder / "summary.json").read_text())["layers"]["conv2"]
    assert row["nats"] > row["nats_shuffled"] > 0
    assert row["nats"] > row["nats_rotated"] > row["nats_shuffled"]
    assert row["mean_r_low"] < row["mean_r"] < row["mean_r_high"]
    assert row["r2_held_out"] > row["r2_held_out_shuffled"]
    names = {path.stem for path in (folder / "figures").glob("*.pdf")}
    assert {"nats", "densities-conv1", "densities-fc1", "curves", "means"} <= names
    with (folder / "partners.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["layer"] for row in rows} == {"conv1", "conv2", "conv3", "fc1"}
    shown = [float(row["nats"]) for row in rows if (row["layer"], row["a"]) == ("conv1", "seed=0")]
    assert shown == sorted(shown, reverse=True)
    for wrong, sentence in (
        ("method.bins=1", "error: method.bins needs to be a whole number, 2 or more, not 1.\n"),
        ("method.assignment=best", "error: method.assignment needs to be matching or semimatching, not 'best'.\n"),
    ):
        code, _, err = command("align", "method=mutual_information", wrong, f"root='{root}'", "logger=csv")
        assert (code, err) == (1, sentence)


def test_all_held_out_scalars_of_a_row_are_of_the_folds_that_were_asked_for(aligned, root, command):
    from convergent.analysis.results import compare
    from convergent.streaming.saved_moments import SavedMoments

    options = (
        "method=sparse",
        "evaluation.folds=3",
        "layers=[fc1]",
        "evaluation.nulls=[]",
        "label=threefold",
        *BARE,
    )
    code, _, err = command("align", *options, f"root='{root}'")
    assert code == 0, err
    summary = json.loads((aligned / "threefold" / "summary.json").read_text())
    layer = SavedMoments().load(root / summary["moments"] / "fc1.safetensors", "fc1", summary["nets"])
    method = instantiate(OmegaConf.load(aligned / "threefold" / "config.yaml").method)
    for row in summary["pairs"]:
        pair = layer.pair(row["a"], row["b"])
        three, five = (compare(method, replace(pair, held_out_folds=folds), layer.images)[1] for folds in (3, 5))
        held_out = [name for name in three.summary() if "held_out" in name]
        assert "r2_held_out" in held_out
        for name in held_out:
            assert row[name] == pytest.approx(three.summary()[name]), name
            assert row[name] != pytest.approx(five.summary()[name]), name
    # the baselines beside few-to-one maps, of every ordered pair, serve other penalties too
    made = {file: file.stat().st_mtime_ns for file in (root / summary["moments"]).glob("common,*/few_to_one,*")}
    assert len(made) == len(summary["pairs"])
    code, _, err = command("align", *options, "method.alpha=0.2", "label=weaker", f"root='{root}'")
    assert code == 0, err
    assert made == {file: file.stat().st_mtime_ns for file in (root / summary["moments"]).glob("common,*/few_to_one,*")}


def test_without_folds_nothing_is_held_out_and_no_file_has_a_column_for_it(aligned, trained, root, command):
    from convergent.report.gather import gather

    shutil.copytree(trained, trained.parent / "no folds")
    there = ("name='no folds'", f"root='{root}'")
    for method in ("sparse", "least_squares"):
        options = (
            f"method={method}",
            "evaluation.folds=0",
            "layers=[fc1]",
            "evaluation.nulls=[rotated]",
            "pictures=null",
            "logger=csv",
        )
        code, _, err = command("align", *options, *there)
        assert code == 0, err
    code, out, err = command("report", *there)
    assert code == 0, err
    folders = sorted((root / "outputs" / "align" / "no folds").iterdir())
    files = [file for folder in folders for file in (folder / "summary.json", *folder.glob("*.csv"))]
    report = root / "outputs" / "report" / "no folds"
    text = out + "".join(file.read_text() for file in [*files, report / "table.md"])
    assert "R² fitted" in text
    assert not re.search("held.out|optimism|loss_one_unit|loss_least_squares|nan", text)
    assert not list(report.glob("comparison*"))
    summaries = {folder.name: json.loads((folder / "summary.json").read_text()) for folder in folders}
    page = gather(root, "no folds", summaries, 1e6)
    assert "held" not in page.parts["maps 0 fc1"]["seed=0>seed=1"]
    assert "held_out" not in json.dumps(page.about)


@pytest.fixture(scope="module")
def judged(aligned, root, script):
    Forked(*script("align", "function=units", "label=judged", *JUDGED, f"root='{root}'")).output()
    return root / "outputs" / "align" / "digits-convnet" / "judged"


def test_what_is_left_of_decisions_stands_in_tables_columns_and_a_figure(judged):
    rows = list(read_rows(judged / "function.csv"))
    assert [row["map"] for row in rows[:4]] == ["method", "method", "rotated", "rotated"]
    assert {row["map"] for row in rows} == set(MAPS)
    assert {row["images"] for row in rows} == {"360"}  # the held-out ones of 1,797
    for row in rows:
        kept, low, high = (float(row[name]) for name in ("kept", "kept_low", "kept_high"))
        assert low <= kept <= high <= 1.000001 or row["map"] == "permuted"
        assert {"identity": kept > 0.99999, "ablated": kept == 0}.get(row["map"], True)
    layers = json.loads((judged / "summary.json").read_text())["layers"]
    by_hand = [
        float(row["kept"]) for row in rows if (row["layer"], row["map"], row["restored"]) == ("fc1", "method", "1")
    ]
    assert layers["fc1"]["kept_restored"] == pytest.approx(sum(by_hand) / len(by_hand), abs=1e-5)
    assert {"kl_ratio_best_half", "needed", "same_decision_above_rotated"} <= set(layers["conv2"])
    units = [float(row["kl_ablated"]) for row in read_rows(judged / "scores.csv") if row["layer"] == "conv1"]
    assert sum(cost == cost for cost in units) > 4  # those that are not NaN
    controls = list(read_rows(judged / "control_measures.csv"))
    assert {row["map"] for row in controls} == {"rotated", "untrained"}
    assert all(0 < float(row["cka"]) <= 1 for row in controls)
    assert (judged / "figures" / "function.png").stat().st_size > 5000


def test_what_was_judged_before_a_job_was_killed_is_not_judged_again(judged, root, command, monkeypatch):
    again = ("align", "function=units", "label=killed", *JUDGED, f"root={root}", "reading.snapshot_minutes=0")
    batches, end = [], FunctionPass.end

    def dying(self, deadly):
        end(self)
        batches.append(self.layer)
        if len(batches) == deadly:
            raise KeyboardInterrupt

    layers = [row["layer"] for row in read_rows(judged / "function.csv")]
    whole = -(-360 // 32)  # batches of a layer: what all methods have in common was judged before
    monkeypatch.setattr(FunctionPass, "end", lambda self: dying(self, whole + 3))
    assert command(*again)[0] != 0
    monkeypatch.setattr(FunctionPass, "end", lambda self: dying(self, -1))
    assert command(*again)[0] == 0
    assert batches.count("conv1") == whole
    assert (
        whole <= batches.count("conv2") < whole + 3
    )  # not from its beginning, though snapshots may be some batches apart
    assert len(batches) < whole * len(set(layers)) + 3
    assert (judged.parent / "killed" / "function.csv").read_bytes() == (judged / "function.csv").read_bytes()
    assert not [path for path in (root / "outputs" / "moments").glob("*/function*/*") if path.is_dir()]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("images=train", "Nets are judged on images that they were not trained on, and images=train does not say"),
        ("evaluation.folds=0", "Maps are judged on images that they were not fitted to; ask for evaluation.folds=2"),
        ("function=unit", "function needs"),
    ],
)
def test_what_cannot_be_judged_is_refused(aligned, refused, override, message):
    assert message in refused("align", "method=matching", "function=true", "label=refused", override)


def test_two_processes_measure_in_two_passes_what_one_does_in_one(aligned, trained, judged, root, script):
    folder = measured_in(root)
    for file in (root / "outputs" / "moments").glob("*/function*/*"):
        file.unlink()
    alone = {path.name: path.read_bytes() for path in folder.glob("*.safetensors")}
    for path in folder.glob("*.safetensors"):
        path.unlink()
    ddp = ("label=ddp", "reading.layers_per_pass=2", "function=true")
    both_nodes(*script("align", *ddp, *BARE, f"root='{root}'"), cwd="/")
    assert (judged.parent / "ddp" / "function.csv").read_bytes() == (judged / "function.csv").read_bytes()
    for name, content in alone.items():
        ours, theirs = load_file(folder / name), dict(_loaded(content))
        assert all(torch.equal(ours[key], theirs[key]) for key in theirs)


def _loaded(content):
    from safetensors.torch import load

    return load(content)


def test_two_processes_train_the_net_that_one_does(root, script, command):
    same = (
        "seeds=[0,1]",
        *SMALL,
        "net.module.dropout=0",
        "+trainer.limit_train_batches=40",
        f"root='{root}'",
        "logger=csv",
    )
    ddp = ("trainer=ddp", "trainer.devices=2", "trainer.accelerator=cpu")
    output = Forked(*script("train", *same, *ddp, "name=two")).output()
    assert output.count(": val/acc_top1") == 2  # one of the processes speaks, of two nets
    assert command("train", *same, "name=one")[0] == 0
    for seed in (1, 0):
        folders = [root / "outputs" / "train" / name / f"seed={seed}" for name in ("one", "two")]
        one, two = (load_file(folder / "weights.safetensors") for folder in folders)
        assert all(torch.allclose(one[key], two[key], atol=1e-3) for key in one)
    one, two = (json.loads((folder / "metrics.json").read_text())["val/acc_top1"] for folder in folders)
    assert one == pytest.approx(two, abs=2 / 360)  # every validation image counts once in both
    assert one > 0.3


def test_wandb_has_it_all_offline_and_can_be_read_back(aligned, trained, root):
    runs = {}
    for folder in sorted((root / "outputs" / "wandb").glob("offline-run-*")):
        inspect = [Path(sys.executable).parent / "wandb", "leet", "inspect", "--json", folder]
        output = subprocess.run(inspect, capture_output=True, text=True, check=True).stdout
        records = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
        (run,) = [record for record in records if record["type"] == "run"]
        runs[json.dumps(run, separators=(",", ":"))] = output
    assert len(runs) == 4
    by_name = {}
    for name in ("seed=0", "seed=1", "matching", "semimatching"):
        (by_name[name],) = [record for run, record in runs.items() if f'"display_name":"{name}"' in run]
    for run in runs:
        assert '"digits-convnet"' in run
    assert all(text in by_name["seed=0"] for text in ("val/acc_top1", "train/loss", "weights.safetensors"))
    wanted = (
        "one/conv1 r by rank", "all/fc1 mean r", "one/curves",
        "one/matches-fc1", "units.table.json", "pictures.table.json", "scores.csv",
    )  # fmt: skip
    assert all(text in by_name["matching"] for text in wanted)
    assert str(Path.home() / ".local") not in by_name["matching"]  # nothing is copied into the home directory
    wandb, staged = root / "outputs" / "wandb", {}
    for file in (root / "outputs").rglob("staging/tmp*"):  # all in the folder of the run that is to be synced
        staged.setdefault(next(part for part in file.parts if part.startswith("offline-run-")), []).append(file)
    for folder, files in staged.items():
        output = next(output for run, output in runs.items() if f'"{folder.rpartition("-")[2]}"' in run)
        pictures = [file for file in files if file.read_bytes().startswith(b"\x89PNG")]
        assert pictures
        assert all(str(file) in output for file in pictures)
    assert len(staged) == 2
    assert all((wandb / folder).is_dir() for folder in staged)


def test_a_killed_training_goes_on_from_its_last_epoch(root, script, command):
    import time

    arguments = ("train", "seed=5", "epochs=8", *SMALL[1:], f"root='{root}'", "name=killed", "logger=csv")
    process = Forked(*script(*arguments))
    checkpoint = root / "outputs" / "train" / "killed" / "seed=5" / "last.ckpt"
    for _ in range(1800):
        if checkpoint.exists():
            break
        time.sleep(0.1)
    process.kill()
    process.wait()
    epoch = torch.load(checkpoint, weights_only=True)["epoch"]
    assert not (checkpoint.parent / "done").exists()
    assert epoch < 7
    code, output, _ = command(*arguments)
    assert code == 0
    assert "going on from the last checkpoint" in output
    assert torch.load(checkpoint, weights_only=True)["epoch"] == 7


def test_a_net_of_ones_own_trains_and_aligns(root, command, tmp_path, monkeypatch):
    (tmp_path / "my_nets.py").write_text(
        "from torch import nn\n"
        "class Net(nn.Sequential):\n"
        "    def __init__(self, width):\n"
        "        super().__init__(nn.Flatten(), nn.Linear(64, width), nn.Tanh(), nn.Linear(width, 10))\n"
    )
    monkeypatch.chdir(tmp_path)
    own = ("net=module", "net.name=mine", "net.module._target_=my_nets.Net", "+net.module.width=12", "net.layers=['2']")
    assert command("train", *own, "seeds=[0,1]", "epochs=1", f"root='{root}'", "logger=csv")[0] == 0
    code, _, err = command("align", "name=digits-mine", f"root='{root}'", "logger=csv")
    assert code == 1
    assert '"trust=[my_nets.Net]"' in err
    assert command("align", "name=digits-mine", "trust=[my_nets.Net]", f"root='{root}'", *BARE)[0] == 0
    summary = json.loads((root / "outputs" / "align" / "digits-mine" / "matching" / "summary.json").read_text())
    assert summary["layers"]["2"]["units"] == 12


_RESNET = "{_target_: torchvision.models.resnet18}"
_VIT = (
    "{_target_: torchvision.models.VisionTransformer, image_size: 32, patch_size: 16, num_layers: 2, num_heads: 2, "
    "hidden_dim: 16, mlp_dim: 16}"
)


def test_modules_of_other_architectures_and_views_are_compared_layer_by_layer(root, command, tmp_path, caplog):
    import numpy as np
    from PIL import Image

    for split, number in (("train", 1), ("val", 64)):
        (tmp_path / split / "all").mkdir(parents=True)
        for image in range(number):
            picture = np.random.default_rng(image).integers(0, 255, (40, 50, 3)).astype("uint8")
            Image.fromarray(picture).save(tmp_path / split / "all" / f"{image}.png")
    caplog.set_level("DEBUG")
    view = "prepare: [{_target_: torchvision.transforms.v2.Resize, size: [32,32]}]"
    nets = f"nets=[{_RESNET},{{module: {_VIT},{view}}}]"
    layers = "layers=[[layer1.0,encoder.layers.encoder_layer_0],{resnet18: layer4, visiontransformer: encoder.ln}]"
    images = (
        "data=folder",
        f"data.folder={tmp_path}",
        "data.workers=0",
        f"root='{root}'",
        "reading.blocks=8",
        "evaluation.rotations=2",
        *BARE,
    )
    code, _, err = command("align", nets, layers, *images, "reading.sample=pooled", "label=it")
    assert code == 0, err
    folder = root / "outputs" / "align" / "resnet18~visiontransformer" / "it"
    summary = json.loads((folder / "summary.json").read_text())
    assert set(summary["layers"]) == {"layer1.0~encoder.layers.encoder_layer_0", "layer4~encoder.ln"}
    assert {(pair["a"], pair["units"]) for pair in summary["pairs"] if "ln" in pair["layer"]} == {
        ("resnet18", 16), ("visiontransformer", 512),
    }  # fmt: skip
    assert summary["images"] == 64
    assert (
        "64 x 16 x 16, 5 x 16  channel, last" in caplog.text
    )  # 64-pixel pictures for one, 32-pixel ones for the other
    code, _, err = command("align", nets, layers, *images)
    assert code == 1
    assert "unequal numbers of positions" in err
    assert "reading.sample=pooled" in err


def test_nets_along_their_training_are_compared_epoch_by_epoch(root, command):
    some = ("seeds=[0,1]", "epochs=2", "keep_epochs=[0,2]", SMALL[1], "name=along", f"root='{root}'", "logger=csv")
    assert command("train", *some)[0] == 0
    options = (
        "name=along",
        "at_epochs=kept",
        "layers=[conv1]",
        "evaluation.rotations=2",
        f"root='{root}'",
        "figure=[dynamics]",
        *BARE[1:],
    )
    assert command("align", *options)[0] == 0
    folder = root / "outputs" / "align" / "along" / "matching,at_epochs=kept,layers=[conv1],rotations=2"
    summary = json.loads((folder / "summary.json").read_text())
    assert list(summary["epochs"]) == ["0", "2"]
    assert {pair["a"] for pair in summary["pairs"]} == {"seed=0@epoch=2", "seed=1@epoch=2"}
    assert summary["epochs"]["0"]["conv1"]["mean_r"] != summary["epochs"]["2"]["conv1"]["mean_r"]
    assert (folder / "figures" / "dynamics.pdf").exists()
    weights = root / "outputs" / "train" / "along" / "seed=0"
    last, second = load_file(weights / "weights.safetensors"), load_file(weights / "epochs" / "2.safetensors")
    assert all(torch.equal(last[key], second[key]) for key in last)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "keep_epochs=[-1]",
            "keep_epochs needs to be a list of values, each a whole number, 0 or more, as [0,1,5], not [-1]",
        ),
        ("keep_epochs=[last]", "not ['last']"),
    ],
)
def test_epochs_that_cannot_be_kept_are_refused(refused, override, message):
    assert message in refused("train", "name=bad", override)


# --- bad input: one sentence, exit code 1, nothing half written ---


@pytest.fixture
def refused(command, root):
    def kept():
        """Everything in outputs/ but what the statistics pass keeps, and locks."""
        files = [str(path) for path in (root / "outputs").rglob("*") if path.is_file()]
        return {path for path in files if "/moments/" not in path and "/locks/" not in path}

    def refused(name, *overrides):
        there = kept()
        code, out, err = command(name, f"root='{root}'", *overrides, *(BARE[:1] if name == "align" else ()))
        assert code == 1
        assert err.startswith("error: ")
        assert err.count("\n") == 1
        assert "Traceback" not in out + err
        assert kept() == there
        return err

    return refused


def test_an_unknown_layer_lists_near_names(trained, refused):
    assert "near names are conv1" in refused("align", "layers=[cnov1]")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("reading.blocks=0", "blocks needs to be a whole number, 1 or more, not 0"),
        ("evaluation.folds=half", "folds needs to be"),
        ("reading.sample=some", "sample needs to be every, pooled or centre, or a whole number, 1 or more, not 'some'"),
        ("images=test", "one of train, val, all, not 'test'"),
        ("layers=[fc2]", ""),
        ("layers=['conx*']", "Pattern 'conx*' means no layer of net seed=0; its layers are conv1"),
        ("pairs=[['seed=0','seed=7']]", "pairs needs lists of two of seed=0, seed=1, as pairs=[[A,B],[A,C]]"),
        (
            "reading.units=rows",
            "units needs to be auto, channel, last or flat, or a dictionary from nets to these, not 'rows'",
        ),
        ("at_epochs=kept", "(none), not kept; train with keep_epochs=[...]"),
        (
            "evaluation.nulls=null",
            "nulls needs to be a list of different values, each rotated, rotated_after or shuffled, not null",
        ),
        (
            "evaluation.nulls=rotated",
            "nulls needs to be a list of different values, each rotated, rotated_after or shuffled, not 'rotated'",
        ),
        ("reading.layers_per_pass=-1", "layers_per_pass needs to be a whole number, 1 or more, or null, not -1"),
        ("evaluation.nulls=[rotations]", "each rotated, rotated_after or shuffled, not ['rotations']"),
    ],
)
def test_an_option_that_cannot_be_is_refused(trained, refused, override, message, command, root):
    if message:
        assert message in refused("align", override)
    else:  # the logits are a layer as any other
        code, _, _ = command("align", override, f"root='{root}'", *BARE, "label=logits")
        assert code == 0


def test_other_pictures_than_a_finished_results_are_reported(aligned, refused):
    err = refused("align", "pictures=bottom")
    assert "pictures is top there and bottom here; replace it with force=true" in err.replace(")", "")
    assert "another label=" in err
    assert "pictures needs to be top, bottom or ascent, or null, not 'botom'" in refused("align", "pictures=botom")


def test_more_clusters_than_units_are_reported(trained, refused):
    options = ("layers=[conv1]", "evaluation.nulls=[]", "evaluation.intervals=false", "logger=csv")
    err = refused("align", "method=spectral", "method.clusters=500", *options)
    assert "500 clusters need as many units, but layer conv1 has 12 in all nets; ask for fewer" in err


def test_one_net_is_not_enough(trained, refused, root):
    err = refused("align", "nets='" + str(root / "outputs" / "nothing") + "'")
    assert "at least two finished nets" in err
    assert "python src/train.py -m seed=0,1,2,3" in err
    assert "no finished run" in refused("align", f"nets=['{trained}/seed=0','{root}/elsewhere']")


def test_runs_of_two_experiments_go_together_and_are_told_apart(trained, command, root):
    other = root / "outputs" / "train" / "another"
    shutil.copytree(trained / "seed=1", other / "seed=0")
    both = f"nets=['{trained}/seed=0','{other}/seed=0']"
    code, _, _ = command("align", both, "label=two", "layers=[fc1]", *BARE, f"root='{root}'")
    assert code == 0
    summary = json.loads((root / "outputs" / "align" / "digits-convnet~another" / "two" / "summary.json").read_text())
    assert {pair["a"] for pair in summary["pairs"]} == {"digits-convnet/seed=0", "another/seed=0"}
    code, _, err = command("align", f"nets=['{trained}/seed=0','{trained}/seed=0']", f"root='{root}'")
    assert code == 1
    assert "a name of its own" in err


def test_nets_of_other_images_do_not_go_together(trained, refused, root):
    other = root / "outputs" / "other" / "seed=0"
    other.mkdir(parents=True)
    config = OmegaConf.load(trained / "seed=0" / "config.yaml")
    config.data.name, config.data.classes = "cifar10", 10
    OmegaConf.save(config, other / "config.yaml")
    (other / "done").touch()
    assert "data.name is digits" in refused("align", f"nets=['{trained}/seed=0','{other}']")


@pytest.mark.parametrize("damage", ["missing", "cut", "flipped bit", "other net"])
def test_damaged_weights_are_reported(trained, refused, root, damage):
    copies = root / "outputs" / f"damaged {damage}"
    shutil.copytree(trained, copies)
    weights = copies / "seed=1" / "weights.safetensors"
    if damage == "missing":
        weights.unlink()
    elif damage == "cut":
        weights.write_bytes(weights.read_bytes()[:1000])
    elif damage == "flipped bit":
        weights.write_bytes(flipped(weights.read_bytes()))
    else:
        save_file({"x": torch.zeros(1)}, weights)
    err = refused("align", f"nets='{copies}'")
    assert str(weights) in err
    assert "force=true" in err


def test_nan_in_a_net_is_reported(trained, refused, root):
    copies = root / "outputs" / "nan"
    shutil.copytree(trained, copies)
    weights = load_file(copies / "seed=1" / "weights.safetensors")
    weights["conv2.0.bias"][3] = torch.nan
    save_file(weights, copies / "seed=1" / "weights.safetensors")
    assert "Layer conv2 of net seed=1 gives NaN" in refused("align", f"nets='{copies}'")


def test_a_misspelt_option_is_answered_with_what_is_near(root, script):
    done = subprocess.run(script("train", "sede=1", f"root='{root}'"), capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "error: There is no option sede; did you mean seed or seeds?\n"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["net.module._target_=nowhere.Net"], "nowhere"),
        (["net.module={_target_: builtins.dict}"], "needs to be an nn.Module"),
        (["trainer=gpu"], "This trainer cannot run here"),
        (["trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=999"], "at most"),
        (["data=folder"], "data.classes has no value; set it on the command line, as data.classes=..."),
        (["data=folder", "data.classes=2", "data.folder=/nowhere"], "No images for"),
        (["seed=first"], "seed needs to be a whole number from 0 to 4294967295, not 'first'"),
        (["net.layers=[nope]"], "Net convnet has no layer 'nope'"),
        (["+optimizer.optimizer.betas=[2,3]", "optimizer=adamw"], "optimizer or its schedule cannot be made"),
        (["epochs=-1"], "epochs needs to be a whole number, 0 or more, not -1"),
    ],
)
def test_a_training_that_cannot_be_is_refused(refused, overrides, message):
    if message.startswith("This trainer") and torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    assert message in refused("train", "name=bad", *overrides)


def test_a_training_that_meets_a_broken_image_leaves_nothing_behind(refused, tmp_path):
    from PIL import Image

    for split in ("train", "val"):
        for name in ("cats", "dogs"):
            (tmp_path / split / name).mkdir(parents=True)
            Image.new("RGB", (40, 40)).save(tmp_path / split / name / "1.png")
    broken = tmp_path / "train" / "dogs" / "1.png"
    broken.write_bytes(broken.read_bytes()[:60])
    err = refused(
        "train", "name=broken", "logger=csv", "data=folder", f"data.folder={tmp_path}", "data.classes=2"
    )  # with two workers
    assert f"Image {broken} cannot be read" in err


def test_a_second_training_of_one_seed_waits_for_the_first(trained, root, script):
    with FileLock(root / "outputs" / "locks" / "train" / "twice" / "seed=0"):  # as the first would hold it
        arguments = ("name=twice", "epochs=1", SMALL[1], f"root='{root}'", "logger=csv")
        process = Forked(*script("train", *arguments))
        assert process.stdout.readline() == "twice seed=0: another job is at it; waiting for its end\n"
        shutil.copytree(trained, root / "outputs" / "train" / "twice")  # and it ends well
        config = root / "outputs" / "train" / "twice" / "seed=0" / "config.yaml"
        config.write_text(config.read_text().replace("epochs: 3", "epochs: 1").replace("digits-convnet", "twice"))
    assert process.output().startswith("twice seed=0: done already")


def test_jobs_at_the_same_time_measure_once(aligned, root, script):
    folder = measured_in(root)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # as another job would hold it
        impatient = "from convergent.cli import measurement; measurement._MINUTE = 1.0; import sys, runpy; "
        impatient += "sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"
        python, *command = script("align", "label=waits", "hydra.verbose=true", f"root='{root}'", *BARE)
        process = Forked(python, "-c", impatient, *command)
        for line in process.stdout:
            if "Another job is measuring" in line:
                break
        else:
            pytest.fail("did not wait")
        assert process.poll() is None
    assert "Moments of 4 layers found" in process.output()  # the lock's owner is gone: it goes on
