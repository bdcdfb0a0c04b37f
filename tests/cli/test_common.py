"""What no method changes is made once, whatever becomes of its file."""

from types import SimpleNamespace

import pytest
from omegaconf import OmegaConf

from convergent.analysis.evaluation import Evaluation
from convergent.cli.common import Common


def common(tmp_path, similarity=("cka",), package="convergent.similarity", **evaluation):
    config = OmegaConf.create({"similarity": {name: {"_target_": f"{package}.{name}"} for name in similarity}})
    job = SimpleNamespace(names=["a", "b"], config=config, evaluation=Evaluation(**evaluation))
    return Common.of(job, SimpleNamespace(folder=tmp_path))


def test_a_value_is_made_once_to_the_last_bit_and_again_where_its_file_is_damaged(tmp_path):
    made = []

    def make():
        made.append(0)
        return {"cka": 0.1 + 0.2, "none": float("nan")}

    first = common(tmp_path).get("conv1,0,1", make)
    again = common(tmp_path).get("conv1,0,1", make)
    assert again["cka"] == first["cka"]
    assert again["none"] != again["none"]
    assert len(made) == 1
    (file,) = tmp_path.rglob("*.json")
    file.write_text('{"cka": 0.3')
    assert common(tmp_path).get("conv1,0,1", make)["cka"] == first["cka"]
    assert len(made) == 2


@pytest.mark.parametrize("other", [{"similarity": ("cka", "cca")}, {"folds": 3}, {"nulls": ("shuffled",)}])
def test_what_it_depends_on_is_in_its_name(tmp_path, other):
    assert common(tmp_path).folder != common(tmp_path, **other).folder


def test_a_measure_of_ones_own_which_may_change_is_made_each_time(tmp_path):
    made = []
    for _ in range(2):
        common(tmp_path, package="mine").get("conv1,0,1", lambda: made.append(0))
    assert len(made) == 2
    assert not list(tmp_path.iterdir())
