"""What the documents say: their notebook runs, their tables are there, each text between its marks."""

import re
from collections import OrderedDict

import pytest
import torch

from conftest import PROJECT, planted
from convergent.core.pairs import Pair
from convergent.errors import InputError
from convergent.methods.matching import Matching
from convergent.report.readme import documents, fill

DOCUMENTS = "\n".join(file.read_text() for file in documents(PROJECT))


def test_the_six_lines_of_the_notebook_run():
    (code,) = re.findall(r"```python\n(from convergent.core.pairs.*?)```", DOCUMENTS, re.DOTALL)
    x_na, x_nb, order = planted(300)
    for kind in (torch.as_tensor, lambda x: x.numpy()):
        names = {"x_na": kind(x_na), "x_nb": kind(x_nb)}
        exec(code, names)
        assert torch.equal(names["alignment"].partner_b, order)
        assert names["alignment"].map_ab.shape == (6, 6)
        assert (names["alignment"].score_b > 0.9).all()


def test_intervals_nulls_and_mutual_information_of_the_notebook():
    x_na, x_nb, order = planted(300)
    (controls,) = re.findall(r"```python\n(from convergent.analysis.intervals.*?)```", DOCUMENTS, re.DOTALL)
    names = {
        "pair": Pair.of(x_na, x_nb),
        "Matching": Matching,
        "Pair": Pair,
        "torch": torch,
        "x_na": x_na,
        "pre_nb": x_nb,
    }
    exec(
        controls.replace("jackknife(lambda", "interval = jackknife(lambda").replace(
            "\nMatching", "\nchance = Matching"
        ),
        names,
    )
    assert names["interval"].low > 0.9 > names["chance"]
    (information,) = re.findall(r"```python\n(from convergent.analysis.information.*?)```", DOCUMENTS, re.DOTALL)
    exec(information, names)
    assert torch.equal(names["method"](names["pair"]).partner_b, order)
    assert names["report"].scalars["same_partner"] == 1
    assert names["report"].tables["partners"][0]["nats"] >= names["report"].scalars["nats"] > 1


TABLES = [
    *("results", "controls", "across", "table 1", "clusters", "agreement"),
    *(
        f"benchmark {name}"
        for name in ("pass", "accuracy", "alternatives", "mutual_information", "sparse", "spectral", "input")
    ),
]


@pytest.mark.parametrize("name", TABLES)
def test_every_table_is_there_once(name):
    _, table, _ = re.split(rf"<!-- {name}: .*? -->", DOCUMENTS)
    assert len(table.strip().splitlines()) > 4


def test_the_results_were_written_by_the_report_and_pictures_are_there():
    _, table, _ = DOCUMENTS.split("<!-- results: written by `make readme` -->")
    rows = table.strip().splitlines()
    assert rows[0] == "| method | images | conv1 | conv2 | conv3 | fc1 |"
    assert {row.split(" | ")[0].strip("| ") for row in rows[2:]} >= {"matching", "sparse", "spectral", "least_squares"}
    for file in documents(PROJECT):
        for picture in re.findall(r"\]\(([^)\s:]+\.(?:png|svg))\)", file.read_text()):
            assert (file.parent / picture).stat().st_size > (5000 if picture.endswith(".png") else 1000)


def test_each_text_goes_between_its_marks_wherever_they_are_and_its_figures_beside_it(tmp_path):
    mark, other = (f"<!-- {name}: written by `make readme` -->\n" for name in ("table 1", "other"))
    (tmp_path / "docs" / "pictures").mkdir(parents=True)
    (tmp_path / "README.md").write_text(f"before\n{mark}old\n{mark}![shown](docs/one.png)\n{other}stays\n{other}")
    page = tmp_path / "docs" / "page.md"
    page.write_text(f"{other}stays\n{other}between\n{mark}old\n{mark}![shown](pictures/two.png) ![up](../three.png)\n")
    figures = [tmp_path / name for name in ("one.png", "two.png", "three.png", "four.png")]
    for figure in figures:
        figure.write_bytes(b"new")
    assert fill(tmp_path, {"table 1": "new\n", "nowhere": "x"}, figures) == [tmp_path / "README.md", page]
    assert (tmp_path / "README.md").read_text() == (
        f"before\n{mark}new\n{mark}![shown](docs/one.png)\n{other}stays\n{other}"
    )
    assert page.read_text().startswith(f"{other}stays\n{other}between\n{mark}new\n{mark}!")
    assert sorted(file.name for file in (tmp_path / "docs").rglob("*.png")) == ["one.png", "two.png"]
    assert fill(tmp_path, {"table 1": "new\n"}) == []


@pytest.mark.parametrize("text", ["{0}", "{0}old\n{0}{1}", "{0}{1}{1}"])
def test_a_mark_without_its_other_is_named(tmp_path, text):
    mark, other = (f"<!-- {name}: written by `make readme` -->\n" for name in ("controls", "other"))
    (tmp_path / "README.md").write_text(before := text.format(mark, other))
    with pytest.raises(InputError, match=r"README.md needs the line <!-- (controls|other): .* twice"):
        fill(tmp_path, {"controls": "new\n"})
    assert (tmp_path / "README.md").read_text() == before


def test_the_callback_runs_in_a_run_of_ones_own():
    import pytorch_lightning
    from torch import nn
    from torch.utils.data import DataLoader

    (code,) = re.findall(r"```python\n(from convergent.streaming.callback.*?)```", DOCUMENTS, re.DOTALL)

    def net():
        return nn.Sequential(OrderedDict(layer1=nn.Linear(4, 3), layer4=nn.Linear(3, 2)))

    pictures = [(torch.randn(4), 0, image) for image in range(20)]
    names = {"net_a": net(), "net_b": net(), "loader": DataLoader(pictures, 5), "pytorch_lightning": pytorch_lightning}
    exec(code, names)
    assert names["callback"].moments["layer1"].images == 20
    assert names["alignment"].map_ab.shape == (3, 3)

    from convergent.methods.mutual_information import MutualInformation
    from convergent.streaming.callback import HistogramsCallback

    counted = HistogramsCallback(layers=["layer1"])  # alone, in a pass of its own
    trainer = pytorch_lightning.Trainer(callbacks=[counted], logger=False, enable_checkpointing=False)
    trainer.predict(names["Nets"]({"one": names["net_a"], "two": names["net_b"]}), names["loader"])
    pair = counted.histograms["layer1"].with_moments(names["callback"].moments["layer1"].pair("one", "two"))
    assert (MutualInformation()(pair).partner_b >= 0).all()
