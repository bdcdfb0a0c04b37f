"""The command merge: what it leaves on disk, that it can be read back, and what it refuses."""

import json

import pytest
import torch
from torchvision.transforms.functional import to_tensor

from convergent.cli.built import Built
from convergent.cli.schema import MERGING
from convergent.data.digits import Digits
from convergent.errors import InputError
from convergent.function.merging.aligners import WORDS
from convergent.function.merging.line import Judge
from convergent.options import check
from convergent.report.merging import find_merges, merging_parts, merging_table
from convergent.storage.csv_files import read_rows

MODULE = {
    "_target_": "convergent.nets.convnet.ConvNet",
    "channels": 1,
    "size": 8,
    "classes": 10,
    "widths": [3, 4, 4, 5],
}
OTHER = MODULE | {"widths": [3, 4, 4, 6]}


def given(*modules):
    entries = (f"{{module:{json.dumps(of, separators=(',', ':'))},name:{name}}}" for name, of in zip("abc", modules))
    return f"nets=[{','.join(entries).replace(chr(34), '')}]"


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("merge")


def arguments(root, *modules):
    return (
        given(*modules),
        f"root={root}",
        "name=tried",
        "trainer=cpu",
        "trainer.devices=1",
        "logger=csv",
        "beside=[none]",
    )


@pytest.fixture
def merged(root, command):
    """The folder of a merge of two nets, and what was printed when it was asked for, for the first time or again."""
    code, out, err = command("merge", *arguments(root, MODULE, MODULE))
    assert (code, err) == (0, "")
    return root / "outputs" / "merge" / "tried" / "matching,beside=[none]", out


def test_a_merge_is_whole_on_disk_and_done_once(merged):
    folder, out = merged
    assert "mean barrier matching" in out
    assert {file.name for file in folder.iterdir()} == {
        "config.yaml", "summary.json", "line.csv", "barriers.csv", "together.csv", "merged.safetensors",
        "figures", "done",
    }  # fmt: skip
    rows = list(read_rows(folder / "line.csv"))
    assert len(rows) == 2 * 2 * 11  # alignments, with and without repair, places
    assert {row["alignment"] for row in rows} == {"matching", "none"}


def test_what_is_done_is_said_and_not_done_again(merged):
    assert f"done already, in {merged[0]}" in merged[1]


def test_the_merged_net_can_be_read_back_and_is_as_good_as_it_says(merged):
    net = Built.of({"module": MODULE, "weights": str(merged[0] / "merged.safetensors")}, 0).net()
    row = [
        row for row in read_rows(merged[0] / "together.csv") if (row["alignment"], row["repair"]) == ("matching", "1")
    ]
    digits = Digits("val")
    x = torch.stack([to_tensor(picture) for picture, _ in digits])
    judge = Judge([((x - 0.305) / 0.376, torch.tensor([label for _, label in digits]))], torch.device("cpu"))
    assert judge(net) == (pytest.approx(float(row[0]["loss"]), abs=1e-5), pytest.approx(float(row[0]["accuracy"])))


def test_the_report_reads_what_the_command_wrote(merged, root):
    assert find_merges(root, "tried") == [merged[0]]
    headings, *rows = merging_table(merged[0])
    assert [row[0] for row in rows] == ["matching", "as they come"]
    summary = json.loads((merged[0] / "summary.json").read_text())["alignments"]["none"]
    lines = [row for row in read_rows(merged[0] / "barriers.csv") if (row["alignment"], row["repair"]) == ("none", "0")]
    mean = sum(float(row["barrier"]) for row in lines) / len(lines)
    assert summary["barrier"] == pytest.approx(mean)
    assert rows[1][headings.index("barrier")] == f"{mean:.3f}"
    (part,) = merging_parts([merged[0]])
    assert len(part["curves"]) == 4
    assert all(len(curve["loss"]) == 11 for curve in part["curves"])


def test_units_are_zipped_inside_the_clusters_of_a_clustering_method(root, command):
    code, _, err = command("merge", *arguments(root, MODULE, MODULE), "method=spectral", "label=spectral")
    assert (code, err) == (0, "")
    folder = root / "outputs" / "merge" / "tried" / "spectral"
    rows = [row for row in read_rows(folder / "line.csv") if row["alignment"] == "spectral"]
    assert [float(row["share_b"]) for row in rows] == [0, 0, 0.5, 0.5, 1, 1]
    assert (folder / "figures" / "merging.png").exists()
    (part,) = merging_parts([folder])
    assert {len(curve["loss"]) for curve in part["curves"]} == {3, 11}


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["method=semimatching", "repair=false"], "Merging needs a method that is one to one, as matching, but"),
        (["beside=[rebasin]"], "each none, random, covariance, weights, consensus or zip, not ['rebasin']"),
        (["images=test"], "images needs to be one of train, val, all, not 'test'"),
    ],
)
def test_what_cannot_be_merged_is_one_sentence_and_leaves_nothing(root, command, options, sentence):
    code, _, err = command("merge", *arguments(root, MODULE, MODULE), "label=refused", *options)
    assert (code, err.count("\n")) == (1, 1)
    assert sentence in err
    assert not (root / "outputs" / "merge" / "tried" / "refused").exists()


def test_nets_of_two_architectures_are_refused(root, command):
    code, _, err = command("merge", *arguments(root, MODULE, OTHER), "label=refused")
    assert (code, err.count("\n")) == (1, 1)
    assert "need one architecture, but fc1.0.weight is (5, 16) in a and (6, 16) in b" in err


def test_the_words_of_the_command_are_those_of_the_library():
    check("beside", list(WORDS), MERGING["beside"])
    for word in WORDS:
        assert word in MERGING["beside"].words
    with pytest.raises(InputError):
        check("beside", ["matching"], MERGING["beside"])
