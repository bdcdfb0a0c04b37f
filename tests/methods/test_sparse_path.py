import math

import pytest
import torch
from PIL import Image

from conftest import planted
from convergent.analysis.balanced import tree
from convergent.analysis.codes import codes
from convergent.analysis.path import path
from convergent.analysis.reports import Report
from convergent.analysis.results import compare
from convergent.core.alignment import align
from convergent.core.pairs import Pair
from convergent.core.scores import held_out
from convergent.errors import InputError
from convergent.figures.few_to_one import few_to_one, path_figure
from convergent.figures.grid import save
from convergent.methods.sparse import SparsePrediction
from convergent.methods.sparse_path import SparsePath


def dense(n=300):
    """Every unit of b a weighted sum of all of a's, with noise."""
    x_na = torch.randn(n, 8).double()
    return Pair.of(x_na, x_na @ torch.randn(8, 4).double() + torch.randn(n, 4))


def test_the_penalty_is_the_one_that_held_out_images_choose():
    pair = dense()
    assert SparsePath()(pair).solver["alpha"] <= 0.01  # all units are needed
    x_na, x_nb = torch.randn(60, 30).double(), torch.randn(60, 4).double()
    alone = Pair.of(x_na, x_nb + x_na[:, :4])
    assert SparsePath()(alone).solver["alpha"] >= 0.1  # few samples, one unit each
    losses = {alpha: held_out(SparsePrediction(alpha), pair, 3).mean().item() for alpha in (0.3, 0.1, 0.01)}
    assert SparsePath(alphas=list(losses))(pair).solver["alpha"] == max(losses, key=losses.get)


def test_each_refit_chooses_without_the_images_that_it_is_scored_on():
    pair = Pair.of(torch.randn(100, 40).double(), torch.randn(100, 6).double(), blocks=10)
    method, expected = SparsePath(), []
    for fold, (fit, _) in enumerate(pair.folds(5)):
        whole, weight_k = fit.parts
        assert weight_k.tolist() == [float(k % 5 != fold) for k in range(10)]
        without = Pair(
            type(whole)(whole.count[weight_k > 0], whole.mean_u[weight_k > 0], whole.scatter_uu[weight_k > 0]),
            pair.a,
            pair.b,
        )  # as if the other images had never been there
        assert torch.allclose(method(fit).map_ab, method(without).map_ab, atol=1e-10)
        expected.append(method(without).solver["alpha"])
    assert max(expected) <= 0.3


def test_intervals_keep_the_chosen_penalty():
    pair = dense()
    alignment, result = compare(SparsePath(), pair, 300, interval=True)
    assert result.interval[0] < result.summary()["mean_r"] < result.interval[1]
    whole = pair.weighted(torch.ones(pair.blocks))
    merged = Pair(whole.moments, pair.a, pair.b)
    assert torch.allclose(alignment.refit(choices=True)(merged).map_ab, alignment.map_ab, atol=1e-8)
    with pytest.raises(InputError, match="at least 2 blocks"):
        SparsePath()(merged)


def test_table_1_has_a_row_for_every_penalty():
    pair = dense()
    method = SparsePath(paper_lambdas=[1e-3, 1e-2, 1e-1])
    report = path(align(method, pair))
    rows = report.tables["path"]
    assert [row["alpha"] for row in rows] == pytest.approx([0.4, 0.04, 0.004])
    assert [row["paper_lambda"] for row in rows] == pytest.approx([1e-1, 1e-2, 1e-3])
    assert sum(row["chosen"] for row in rows) == 1
    for row in rows:
        score_b = held_out(SparsePrediction(row["alpha"]), pair)
        assert row["loss_held_out"] == pytest.approx((1 - score_b).mean().item() / 2)
        assert row["r2_held_out"] == pytest.approx(1 - 2 * row["loss_held_out"])
    fitted = [row["loss_fitted"] for row in rows]
    assert fitted == sorted(fitted, reverse=True)
    assert report.curves["log10_alpha"]["log10_alpha"] == [math.log10(row["alpha"]) for row in rows]
    assert tree(align(method, pair)).tree is not None


def test_mistakes_are_one_sentence():
    with pytest.raises(InputError, match="Set alphas or paper_lambdas"):
        SparsePath(alphas=[0.1], paper_lambdas=[0.1])(dense())
    with pytest.raises(InputError, match=r"alphas needs to be a list of values, each above 0, as \[0.1,0.01\]"):
        SparsePath(alphas=[0.1, 0.0])(dense())


def test_the_papers_table_is_dotted_in_for_its_own_widths_only(tmp_path):
    scalars = {"loss_one_unit": 0.3, "loss_least_squares": 0.1}
    curve = {"log10_alpha": [-1.0, -2.0], "loss": [0.3, 0.2], "loss_fitted": [0.3, 0.2], "predictors": [2.0, 9.0]}

    def drawn(width):
        return path_figure([Report("conv1", "a", "b", {**scalars, "width": width}, curves={"log10_alpha": curve})])

    assert len(drawn(96.0).axes[1].lines) == len(drawn(32.0).axes[1].lines) + 1
    alignment = align(SparsePath(), Pair.of(*planted(200, 6, 6, noise=0.5)[:2]))
    reports = [path(alignment), codes(alignment)]
    for number, figure in enumerate((few_to_one(reports), path_figure(reports))):
        with Image.open(save(figure, tmp_path, str(number))) as picture:
            assert len(picture.convert("L").getcolors()) > 20


def test_the_report_has_table_1_of_the_path(tmp_path):
    from convergent.analysis.reports import rows_by_table
    from convergent.report.loading import Finished
    from convergent.report.tables import table_1

    alignment = align(SparsePath(alphas=[0.1, 0.01]), dense())
    scalars = path(alignment).scalars | codes(alignment).scalars
    rows = rows_by_table([path(alignment)])["path"]
    (tmp_path / "sparse_path").mkdir()
    text = [",".join(rows[0]), *(",".join(map(str, row.values())) for row in rows)]
    (tmp_path / "sparse_path" / "path.csv").write_text("\n".join(text))
    scalars |= {"local_nets_low": 0.0, "local_nets_high": 0.4}
    results = [
        Finished(tmp_path / name, {"layers": layers}, "")
        for name, layers in (("matching", {}), ("sparse_path", {"": scalars}))
    ]
    headings, row = table_1(results)
    assert headings == [
        "layer",
        "one unit",
        "0.1",
        "0.01",
        "all units",
        "local",
        "slightly",
        "distributed",
        "undecided",
    ]
    assert row[2] == f"{rows[0]['loss_held_out']:.3f} ({rows[0]['predictors']:.1f})"
    assert row[5].endswith("(0%-40%)")
    assert table_1(results[:1]) == []
