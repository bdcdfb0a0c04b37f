"""The documents' own results: their tables are there, each text between its marks."""

import re

import pytest
import torch

from conftest import PROJECT
from convergent.analysis.columns import HEAD, LAYER, PAIR, UNIT
from convergent.cli.report import texts_of
from convergent.errors import InputError
from convergent.report.dictionary import dictionary, meanings
from convergent.report.loading import Finished
from convergent.report.readme import documents, fill
from convergent.storage.tensors import save_tensors

DOCUMENTS = "\n".join(file.read_text() for file in documents(PROJECT))


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


def test_an_experiment_that_shares_the_documents_has_marks_and_figures_of_its_own(tmp_path):
    mark, other = (f"<!-- {name}: written by `make readme` -->\n" for name in ("fashion results", "results"))
    (tmp_path / "docs").mkdir()
    page, figure = tmp_path / "README.md", tmp_path / "means.png"
    page.write_text(f"{other}digits\n{other}{mark}old\n{mark}![](docs/means.png) ![](docs/fashion-means.png)\n")
    figure.write_bytes(b"new")
    assert fill(tmp_path, {"results": "new\n"}, [figure], "fashion") == [page]
    assert page.read_text().startswith(f"{other}digits\n{other}{mark}new\n{mark}!")
    assert [file.name for file in (tmp_path / "docs").iterdir()] == ["fashion-means.png"]


def test_the_short_table_is_the_readmes_with_a_row_per_layer(tmp_path):
    results = []
    for name, predictors in (("matching", 1.0), ("sparse_path", 30.0), ("least_squares", 32.0)):
        layers = {
            layer: {"r2_held_out": r2 + predictors / 100, "r2_held_out_sd": 0.01, "predictors": predictors}
            for layer, r2 in (("conv1", 0.4), ("fc1", 0.2))
        }
        (tmp_path / name / "alignments").mkdir(parents=True)
        for layer in layers:
            save_tensors({"x": torch.zeros(1)}, tmp_path / name / "alignments" / f"{layer}.safetensors")
        results.append(Finished(tmp_path / name, {"layers": layers, "images": 100, "pairs": []}, ""))
    texts = texts_of(results)
    assert texts["demo"].splitlines()[2] == "| matching | 0.41 ± 0.01 (1.0) | 0.21 ± 0.01 (1.0) |"
    assert texts["short"].splitlines() == [
        "| layer | matching | least_squares |",
        "| --- | ---: | ---: |",
        "| conv1 | 0.41 (1.0) | 0.72 (32.0) |",
        "| fc1 | 0.21 (1.0) | 0.52 (32.0) |",
    ]


@pytest.mark.parametrize("text", ["{0}", "{0}old\n{0}{1}", "{0}{1}{1}"])
def test_a_mark_without_its_other_is_named(tmp_path, text):
    mark, other = (f"<!-- {name}: written by `make readme` -->\n" for name in ("controls", "other"))
    (tmp_path / "README.md").write_text(before := text.format(mark, other))
    with pytest.raises(InputError, match=r"README.md needs the line <!-- (controls|other): .* twice"):
        fill(tmp_path, {"controls": "new\n"})
    assert (tmp_path / "README.md").read_text() == before


def test_the_data_dictionary_is_that_of_the_columns():
    page = "".join((PROJECT / "docs" / f"{name}.md").read_text() for name in ("data_dictionary", "similarity"))
    for name, table in dictionary().items():
        _, printed, _ = re.split(rf"<!-- {name}: written by .* -->\n", page)
        assert printed == table, "print it anew: python -m convergent.report.dictionary"
    assert {column.name for columns in (HEAD, UNIT, PAIR, LAYER) for column in columns} <= meanings().keys()
    assert "randomly" in meanings()["excess"]
    assert meanings()["above_shuffled"]
