"""The README's notebook, as it stands there."""

import re
from collections import OrderedDict

import pytest
import torch

from conftest import PROJECT, planted
from convergent.methods.matching import Matching
from convergent.pairs import Pair

README = (PROJECT / "README.md").read_text()


def test_the_six_lines_of_the_notebook_run():
    (code,) = re.findall(r"```python\n(from convergent.pairs.*?)```", README, re.DOTALL)
    x_na, x_nb, order = planted(300)
    for kind in (torch.as_tensor, lambda x: x.numpy()):
        names = {"x_na": kind(x_na), "x_nb": kind(x_nb)}
        exec(code, names)
        assert torch.equal(names["alignment"].partner_b, order)
        assert names["alignment"].map_ab.shape == (6, 6)
        assert (names["alignment"].score_b > 0.9).all()


def test_intervals_nulls_and_mutual_information_of_the_notebook():
    x_na, x_nb, order = planted(300)
    (controls,) = re.findall(r"```python\n(from convergent.intervals.*?)```", README, re.DOTALL)
    names = {"pair": Pair.of(x_na, x_nb), "Matching": Matching}
    exec(
        controls.replace("jackknife(lambda", "interval = jackknife(lambda").replace(
            "\nMatching", "\nchance = Matching"
        ),
        names,
    )
    assert names["interval"].low > 0.9 > names["chance"]
    (information,) = re.findall(r"```python\n(from convergent.edges.*?)```", README, re.DOTALL)
    names = {"x_na": x_na, "x_nb": x_nb, "x_us": torch.cat([x_na, x_nb], 1).T}
    exec(information.replace("\nmutual_information", "\nfound = mutual_information"), names)
    assert torch.equal(names["found"].argmax(0), order)


@pytest.mark.parametrize("name", ["controls", "across", "benchmark pass", "benchmark accuracy", "benchmark input"])
def test_every_table_is_there(name):
    _, table, _ = re.split(rf"<!-- {name}: .*? -->", README)
    assert len(table.strip().splitlines()) > 4


def test_the_results_table_was_written_by_the_report():
    from convergent.report import _MARK

    before, table, after = README.split(_MARK)
    rows = table.strip().splitlines()
    assert rows[0] == "| layer | method | images | mean r | R² fitted | R² held out | used |"
    assert len(rows) > 10
    for picture in re.findall(r"\]\((docs/.*?)\)", before + after):
        assert (PROJECT / picture).stat().st_size > 5000


def test_the_callback_runs_in_a_run_of_ones_own():
    import pytorch_lightning
    from torch import nn
    from torch.utils.data import DataLoader

    (code,) = re.findall(r"```python\n(from convergent.measure.*?)```", README, re.DOTALL)

    def net():
        return nn.Sequential(OrderedDict(layer1=nn.Linear(4, 3), layer4=nn.Linear(3, 2)))

    pictures = [(torch.randn(4), 0, image) for image in range(20)]
    names = {"net1": net(), "net2": net(), "loader": DataLoader(pictures, 5), "pytorch_lightning": pytorch_lightning}
    exec(code, names)
    assert names["callback"].moments["layer1"].images == 20
    assert names["alignment"].map_ab.shape == (3, 3)
