"""What README.md and the pages of docs/ show: it fits, its links lead somewhere, its Python runs, its commands compose."""

import re
import shlex
import tomllib
from collections import OrderedDict

import pytest
import pytorch_lightning
import torch
import yaml
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from omegaconf import OmegaConf
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import convergent
from conftest import PROJECT, planted
from convergent.cli.checking import check_options
from convergent.methods.mutual_information import MutualInformation

README = PROJECT / "README.md"
DOCS = PROJECT / "docs"
PAGES = [
    README,
    PROJECT / "CONTRIBUTING.md",
    PROJECT / "CHANGELOG.md",
    *sorted(DOCS.glob("*.md")),
    *sorted(DOCS.glob("notebooks/*.md")),
]


def name_of(page):
    return str(page.relative_to(PROJECT))


def blocks(page, language):
    """The code blocks of a page in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)


def prose(page):
    """A page without its code."""
    return re.sub(r"`[^`\n]+`", "`code`", re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE))


def anchors(page):
    """The names of a page's headings, as GitHub and the site make them."""
    titles = re.findall(
        r"^#+ (.*)$", re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE), re.MULTILINE
    )
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def test_the_readme_is_a_page():
    assert len(README.read_text().splitlines()) <= 150


def test_nothing_on_the_readme_is_cut_where_it_is_rendered():
    text = README.read_text()
    code = "".join(re.findall(r"^```.*?\n(.*?)^```", text, re.DOTALL | re.MULTILINE))
    assert max(map(len, code.splitlines())) <= 95
    rows = [re.sub(r"\]\(.*?\)", "]", line) for line in text.splitlines() if line.startswith("|")]
    assert max(map(len, rows)) <= 120
    (results,) = re.findall(r"<!-- demo: .*?-->\n(.*?)<!--", text, re.DOTALL)
    assert 3 < len(results.strip().splitlines()) <= 2 + 8


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_and_anchors_lead_somewhere(page):
    for link in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if re.match(r"\w+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{link} of {name_of(page)}"
        assert not anchor or anchor in anchors(target), f"{link} of {name_of(page)}"


def test_every_page_is_in_the_table_of_contents_and_every_picture_is_shown():
    index = (DOCS / "index.md").read_text()
    listed = {line for toc in re.findall(r"```{toctree}(.*?)```", index, re.DOTALL) for line in toc.split()}
    for page in PAGES:
        if page.is_relative_to(DOCS) and page.stem != "index":
            assert str(page.relative_to(DOCS).with_suffix("")) in listed
    shown = {link for page in PAGES for link in re.findall(r"images/([\w.-]+)\)", page.read_text())}
    assert {picture.name for picture in (DOCS / "images").iterdir()} == shown


def names():
    """What the pages' Python supposes: activations of two nets, the nets, images."""
    x_na, x_nb, _ = planted(300)

    def net():
        return nn.Sequential(OrderedDict(layer1=nn.Sequential(nn.Linear(4, 6), nn.ReLU()), layer4=nn.Linear(6, 5)))

    images = TensorDataset(torch.randn(80, 4), torch.zeros(80), torch.arange(80))
    return {
        "torch": torch,
        "pytorch_lightning": pytorch_lightning,
        "x_na": x_na,
        "x_nb": x_nb,
        "pre_nb": x_nb,
        "net_a": net(),
        "net_b": net(),
        "loader": DataLoader(images, 10),
        "held_out": [(torch.randn(20, 4), torch.arange(20) % 5)],
    }


def run(page, there):
    """The names after all Python of a page, but for what needs finished results."""
    for code in blocks(page, "python"):
        exec(re.sub(r"^.*load\(\"outputs\".*$", "", code, flags=re.MULTILINE), there)
    return there


@pytest.mark.parametrize(
    "page", [page for page in PAGES if page.stem != "library" and blocks(page, "python")], ids=name_of
)
def test_the_python_of_a_page_runs(page):
    run(page, names())


@pytest.mark.parametrize("kind", [torch.as_tensor, torch.Tensor.numpy])
def test_the_python_of_the_library_page_says_what_is_true(kind):
    (x_na, x_nb, order), there = planted(300), names()
    there = run(DOCS / "library.md", there | {"x_na": kind(x_na), "x_nb": kind(x_nb)})
    matched = there["cv"].Matching()(there["cv"].Pair.of(x_na, x_nb))
    assert torch.equal(matched.partner_b, order)
    assert matched.map_ab.shape == (6, 6)
    assert (matched.score_b > 0.9).all()
    assert len(there["comparison"].frame()) == 2 * 2 * 3
    interval = there["cv"].jackknife(lambda pair: there["cv"].Matching()(pair).r_b.mean(), there["pair"])
    assert interval.low > 0.9 > there["cv"].Matching()(there["rotated"]).r_b.mean()
    assert there["report"].scalars["same_partner"] == 1
    assert there["report"].tables["partners"][0]["nats"] >= there["report"].scalars["nats"] > 1
    assert there["callback"].moments["layer1"].images == 80
    assert there["alignment"].map_ab.shape == (6, 6)


def test_joint_histograms_are_counted_in_a_run_of_ones_own():
    from convergent.streaming.callback import HistogramsCallback, MomentsCallback
    from convergent.streaming.module import Nets

    there = names()
    nets = Nets({"one": there["net_a"], "two": there["net_b"]})
    moments, counted = MomentsCallback(layers=["layer1"]), HistogramsCallback(layers=["layer1"])
    for callback in (moments, counted):  # the second alone, in a pass of its own
        trainer = pytorch_lightning.Trainer(callbacks=[callback], logger=False, enable_checkpointing=False)
        trainer.predict(nets, there["loader"])
    pair = counted.histograms["layer1"].with_moments(moments.moments["layer1"].pair("one", "two"))
    assert (MutualInformation()(pair).partner_b >= 0).all()


def commands():
    """The command lines of all pages: which, and with what options."""
    for page in PAGES:
        for block in blocks(page, "sh"):
            for line in block.replace("\\\n", " ").splitlines():
                words = shlex.split(line, comments=True)
                if words[:1] == ["python"] and (name := words[1].removeprefix("src/").removesuffix(".py")) in (
                    "train", "align", "merge", "report", "prepare",
                ):  # fmt: skip
                    yield pytest.param(name, words[2:], id=f"{name_of(page)}: {line.strip()}")


@pytest.mark.parametrize(("name", "options"), list(commands()))
def test_a_command_of_a_page_is_one(name, options):
    GlobalHydra.instance().clear()
    Plugins.instance()
    overrides = OverridesParser.create().parse_overrides([option for option in options if option != "-m"])
    first = [
        f"{override.get_key_element()}={next(iter(override.sweep_string_iterator()))}"
        if override.is_sweep_override()
        else override.input_line
        for override in overrides
    ]
    with initialize_config_dir(str(PROJECT / "conf"), version_base="1.3"):
        config = compose(name, [line for line in first if not line.startswith("hydra")])
    if not any("mypackage" in line for line in first):
        check_options(name, config)
    assert OmegaConf.is_config(config)


def test_the_picture_of_the_packages_is_the_linters_contract():
    (picture,) = blocks(DOCS / "architecture.md", "text")
    contracts = tomllib.loads((PROJECT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (layers,) = (contract["layers"] for contract in contracts if contract["type"] == "layers")
    drawn = [re.split(r"\s{2,}", line)[0].strip() for line in picture.splitlines() if line.strip() != "|"]
    assert drawn == [re.sub("convergent.", "", layer) for layer in layers]


def test_the_citation_has_the_version_and_licence_of_the_project():
    citation = yaml.safe_load((PROJECT / "CITATION.cff").read_text())
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    assert {"cff-version", "message", "title", "authors"} <= set(citation)
    assert (citation["version"], citation["license"]) == (convergent.__version__, project["license"])
