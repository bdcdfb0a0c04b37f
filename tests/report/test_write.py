"""The report page in a real browser: opened from disk, looked at, clicked through; nothing may go wrong in its console."""

import base64
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from convergent.analysis.by_layer import by_layer
from convergent.analysis.results import compare
from convergent.cli.writing import save_alignments, tensors_of, write_rows
from convergent.core.alignment import Alignment
from convergent.core.layer_moments import LayerMoments
from convergent.core.moments import Moments
from convergent.figures.correlations import aligned_order
from convergent.figures.style import NULL_MEANINGS, look_of
from convergent.methods.matching import Matching
from convergent.methods.semimatching import SemiMatching
from convergent.report.dictionary import meanings
from convergent.report.gather import gather
from convergent.report.maps import largest, packed
from convergent.report.opening import opening
from convergent.report.write import write_page
from convergent.streaming.patches import Patches, save_patches
from convergent.streaming.receptive_fields import Span
from convergent.streaming.saved_moments import SavedMoments
from convergent.streaming.top_images import TopImages

NETS = ["seed=0", "seed=1", "seed=2"]
UNITS = {"conv1": 6, "fc<1>": 12}


class Everything:
    """All units of a, in clusters: many partners, labels, a table of its own."""

    def __call__(self, pair):
        map_ab = pair.corr_ab / pair.p
        return Alignment(pair, map_ab, torch.arange(pair.p) % 2, torch.arange(pair.q) % 2)


def made_patches(q, k):
    top = TopImages(torch.rand(q, k) + 1, torch.randint(400, (q, k)), torch.randint(16, (q, k)))
    return Patches(top, (Span(-1, 1, 3), Span(-1, 1, 3)), 4, torch.randint(256, (q, k, 3, 3, 1), dtype=torch.uint8))


METHODS = {"matching": Matching(), "semimatching": SemiMatching(), "everything": Everything()}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Results of three methods on three nets and two layers, as align leaves them."""
    root = tmp_path_factory.mktemp("root")
    cache = root / "outputs" / "moments" / "key"
    for kind in ("patches", "ascent"):
        (cache / kind).mkdir(parents=True)
    moments = {}
    for layer, q in UNITS.items():
        torch.manual_seed(q)
        shared = torch.randn(400, q).double()
        x_nu = torch.cat([shared[:, torch.randperm(q)] + 0.5 * torch.randn(400, q) for _ in NETS], 1)
        joint = Moments.stack([Moments.of(part) for part in x_nu.split(100)])
        units = [slice(i * q, i * q + q) for i in range(3)]
        scatter = {(i, j): joint.scatter_uu[:, units[i], units[j]] for i in range(3) for j in range(i, 3)}
        moments[layer] = LayerMoments(layer, NETS, units, joint.count, joint.mean_u, scatter, 400)
        SavedMoments().save(moments[layer], cache / f"{layer}.safetensors")
        save_patches({net: made_patches(q, 9) for net in NETS}, cache / "patches" / f"{layer}.safetensors")
        save_patches({net: made_patches(q, 1) for net in NETS}, cache / "ascent" / f"{layer}.safetensors")
    for label, method in METHODS.items():
        folder = root / "outputs" / "align" / "made" / label
        results = []
        for layer in UNITS:
            tensors = {}
            for i, j in moments[layer].pairs:
                for pair in (moments[layer].pair(i, j), moments[layer].pair(i, j).flip()):
                    alignment, result = compare(method, replace(pair, held_out_folds=2), 400)
                    results.append(result)
                    tensors |= tensors_of(alignment, [])
            save_alignments(folder / "alignments" / f"{layer}.safetensors", tensors)
        write_rows(folder / "scores.csv", [row for result in results for row in result.rows()])
        summaries = [result.summary() for result in results]
        summary = {"method": label, "images": 400, "layers": by_layer(summaries), "pairs": summaries, "nets": NETS}
        summary |= {"moments": "outputs/moments/key", "across": {}, "command": f"python src/align.py method={label}"}
        (folder / "summary.json").write_text(json.dumps(summary))
    write_rows(folder / "groups_of_units.csv", [{"layer": "</script>", "size": n} for n in range(30)])
    return root


@pytest.fixture(scope="module")
def summaries(folder):
    results = folder / "outputs" / "align" / "made"
    return {name: json.loads((results / name / "summary.json").read_text()) for name in METHODS}


@pytest.fixture(scope="module")
def page_file(folder, summaries):
    data = gather(folder, "made", summaries, 1e6)
    data.about["made"] = {
        "facts": [["images", "400"]],
        "commands": ["python src/report.py"],
        "configs": [["net", "a: <!--<script>"]],  # in which a browser would wait for its end
    }
    write_page(data, folder / "report.html")
    return folder / "report.html"


@pytest.fixture(scope="module")
def browser():
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if chromium is None:
        pytest.skip("no Chromium here: on Debian, apt-get install chromium")
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright drives the browser")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def page(browser, page_file):
    """The page, opened from disk without a network; at the end nothing may have gone wrong in it."""
    context = browser.new_context(offline=True, viewport={"width": 1280, "height": 900})
    page, wrong, asked = context.new_page(), [], []
    page.on("console", lambda message: wrong.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(page_file.as_uri())
    page.wait_for_selector("body[data-ready=yes]")
    yield page
    assert not wrong
    assert all(url.startswith(("file:", "blob:", "data:")) for url in asked)
    context.close()


def test_the_answer_comes_first(page, summaries):
    cards = page.locator(".card").all_inner_texts()
    assert [card.split("\n")[0] for card in cards] == list(UNITS)
    assert page.locator("#answer p").first.inner_text() == opening(summaries)
    assert opening(summaries).startswith(
        "Among three networks, on 400 images, the best match in another network explains "
    )
    single = max(summaries[name]["layers"]["conv1"]["r2_held_out"] for name in ("matching", "semimatching"))
    assert f"{round(100 * single)}%" in cards[0]
    page.wait_for_function("document.querySelectorAll('#comparison .scatterlayer .trace').length == 3")
    page.wait_for_function("document.querySelectorAll('#summary tbody tr').length == 6")


def test_columns_say_what_they_mean(page):
    page.wait_for_selector("#summary thead .help")
    meaning = {help.inner_text(): help.get_attribute("title") for help in page.locator("#summary thead .help").all()}
    assert meaning["R² held out"] == meanings()["r2_held_out"]
    assert {"mean r", "R² fitted", "predictors per unit"} <= meaning.keys()
    page.locator("#units").scroll_into_view_if_needed()
    page.wait_for_selector("#unit-table thead .help")
    assert (
        page.locator("#unit-table thead .help", has_text="best r").first.get_attribute("title") == meanings()["best_r"]
    )


def test_methods_have_the_colours_of_the_figures(page):
    page.wait_for_function("document.querySelectorAll('#comparison .scatterlayer .trace').length >= 3")
    drawn = page.evaluate("document.getElementById('comparison').data.map(x => [x.name, x.line.color, x.marker.color])")
    assert drawn == [[look_of(name).words, *[look_of(name).colour] * 2] for name in METHODS]


def test_ticks_of_logarithmic_axes_are_whole_numbers(page):
    page.locator("#figure").select_option("predictors")
    page.wait_for_function("document.getElementById('comparison').layout?.yaxis.type === 'log'")
    shown = page.locator("#comparison .ytick text").all_text_contents()
    assert shown == [f"{tick:,}" for tick in (1, 2, 5, 10, 20)][: len(shown)]


def test_chance_is_defined_where_it_is_shown_and_the_paper_is_linked(browser, folder, summaries, tmp_path):
    beside = {f"{figure}_{null}": 0.25 for figure in ("mean_r", "mean_best_r") for null in NULL_MEANINGS}
    with_nulls = json.loads(json.dumps(summaries))
    for scalars in with_nulls["matching"]["layers"].values():
        scalars |= beside
    data = gather(folder, "made", with_nulls, 1e6)
    data.about["made"] = {"facts": [], "commands": [], "configs": []}
    write_page(data, tmp_path / "report.html")
    page = browser.new_page()
    page.goto((tmp_path / "report.html").as_uri())
    page.wait_for_selector("body[data-ready=yes]")
    assert page.locator("#nulls dd").all_inner_texts() == list(NULL_MEANINGS.values())
    assert page.locator("#answer a").first.get_attribute("href") == "https://arxiv.org/abs/1511.07543"
    page.locator("#figure").select_option("mean_r")
    marks = "(document.getElementById('comparison').data ?? []).map(x => x.marker)"
    hollow = f"{marks}.filter(x => x.symbol.endsWith('-open')).map(x => x.color)"
    page.wait_for_function(f"{hollow}.length === 2")
    assert set(page.evaluate(hollow)) == {look_of("matching").colour}
    page.close()


def test_a_layer_may_be_wider_than_16_bits_count(tmp_path):
    wide = tmp_path / "outputs" / "align" / "made" / "matching"
    partner = torch.tensor([[40_000, 7], [0, 1]])
    saved = {"index_ab": partner, "weight": torch.ones(2), "shape": torch.tensor([40_001, 2])}
    (wide / "alignments").mkdir(parents=True)
    save_file({f"a to b/{name}": tensor for name, tensor in saved.items()}, wide / "alignments" / "wide.safetensors")
    scores = dict.fromkeys(("r", "r2_held_out", "best_r", "excess"), 0.5) | {"predictors": 40_000}
    write_rows(wide / "scores.csv", [{"layer": "wide", "a": "a", "b": "b", **scores} for _ in range(2)])
    summary = {"images": 9, "layers": {"wide": {}}, "pairs": [{"layer": "wide", "a": "a", "b": "b"}]}
    maps = gather(tmp_path, "made", {"matching": summary}, 1e6).parts["maps 0 wide"]["a>b"]
    assert np.frombuffer(base64.b64decode(maps["partner"]), "<i4").tolist() == [40_000, 7]
    assert np.frombuffer(base64.b64decode(maps["predictors"]), "<i4").tolist() == [40_000, 40_000]


def test_the_matrix_after_is_the_matrix_of_partners(page, folder):
    page.locator("#layer .tabs button", has_text="fc<1>").click()
    page.locator("#layer").scroll_into_view_if_needed()
    page.wait_for_function("document.getElementById('after').data?.[0].z.length == 12")
    shown = np.array(page.evaluate("document.getElementById('after').data[0].z.map(row => Array.from(row))"))
    pair = SavedMoments().load(folder / "outputs" / "moments" / "key" / "fc<1>.safetensors", "fc<1>", NETS).pair(0, 1)
    order_a, order_b = aligned_order(Matching()(pair))
    np.testing.assert_allclose(shown, pair.corr_ab[order_a][:, order_b], atol=0.5 / 127 + 1e-6)
    before = np.array(page.evaluate("document.getElementById('before').data[0].z.map(row => Array.from(row))"))
    np.testing.assert_allclose(before, pair.corr_ab, atol=0.5 / 127 + 1e-6)


def test_a_unit_is_clicked_and_its_partner_too(page, folder, tmp_path):
    page.locator("#units").scroll_into_view_if_needed()
    page.locator("#unit-table tbody tr").nth(2).click()
    unit = int(page.locator("#unit").get_attribute("data-unit"))
    assert page.locator("#unit h3").inner_text() == f"seed=1, conv1, unit {unit}"
    assert page.locator("#unit > .shown .patch").count() == 9 + 1  # and one made by gradient ascent
    texts = page.locator("#unit").inner_text().split("in seed=")[1:]
    assert [text[0] for text in texts] == ["0", "2"]
    assert all(look_of(method).words in text for method in METHODS for text in texts)
    pair = SavedMoments().load(folder / "outputs" / "moments" / "key" / "conv1.safetensors", "conv1", NETS).pair(0, 1)
    alignment = Matching()(pair)
    partner = page.locator("#unit .partner").first
    assert f"{int(alignment.partner_b[unit])}: r {alignment.r_b[unit]:.2f}" in partner.inner_text()
    assert "cluster" in page.locator("#unit").inner_text()
    page.screenshot(path=tmp_path / "units.png")
    assert (tmp_path / "units.png").stat().st_size > 20_000
    partner.click()
    assert page.locator("#unit h3").inner_text() == f"seed=0, conv1, unit {int(alignment.partner_b[unit])}"


def test_keys_choose_units_and_partners(page):
    page.locator("#units").scroll_into_view_if_needed()
    page.wait_for_selector("#unit-table tbody tr:nth-child(6)")
    units = [text.strip() for text in page.locator("#unit-table tbody td:nth-child(1)").all_inner_texts()]
    page.locator("#unit-table tbody tr").first.focus()
    for key, row in (("Enter", 0), ("ArrowDown", 1), ("ArrowDown", 2), ("ArrowUp", 1)):
        page.keyboard.press(key)
        assert page.locator("#unit").get_attribute("data-unit") == units[row]
    assert page.locator("#unit-table tbody tr.on").count() == 1
    partner = page.locator("#unit .partner").first
    net, unit = partner.get_attribute("data-net"), partner.get_attribute("data-unit")
    partner.press("Enter")
    assert page.locator("#unit h3").inner_text() == f"{net}, conv1, unit {unit}"


def test_every_method_of_every_other_net_is_reported_for_every_unit(page):
    page.locator("#units").scroll_into_view_if_needed()
    for net in NETS:
        page.locator("#units select[data-net=b]").select_option(net)
        rows = page.locator("#unit-table tbody tr")
        for row in range(UNITS["conv1"]):
            rows.nth(row).click()
            heads = page.locator("#unit .net-head").all_inner_texts()
            assert heads == [f"in {other}" for other in NETS if other != net]
            text = page.locator("#unit .partners").inner_text()
            assert all(text.count(look_of(method).words) >= len(heads) for method in METHODS)
            drawn = page.evaluate("[...document.querySelectorAll('#unit .patch')].map(x => x.style.backgroundImage)")
            assert all("blob:" in image for image in drawn)


@pytest.mark.parametrize("width", [360, 768])
def test_a_narrow_window_does_not_overflow(page, width):
    page.set_viewport_size({"width": width, "height": 740})
    for section in ("answer", "methods", "layer", "units", "tables", "made"):
        page.locator(f"#{section}").scroll_into_view_if_needed()
    page.locator("#layer").scroll_into_view_if_needed()
    page.wait_for_function("document.querySelectorAll('#within-b .heatmaplayer image').length == 1")
    page.locator("#units").scroll_into_view_if_needed()
    page.locator("#unit-table tbody tr").first.click()
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_tables_are_sorted_and_filtered(page):
    page.locator("#units").scroll_into_view_if_needed()
    page.wait_for_selector("#unit-table tbody tr:nth-child(6)")
    first = page.locator("#unit-table tbody tr td:nth-child(4)")
    best = [float(text) for text in first.all_inner_texts()]
    assert best == sorted(best, reverse=True)
    header = page.locator("#unit-table thead th").nth(3)
    for order in (None, "ascending"):  # as it came, then the other way round
        header.click()
        page.wait_for_function(
            "([th, order]) => th.getAttribute('aria-sort') === order", arg=[header.element_handle(), order]
        )
    assert [float(text) for text in first.all_inner_texts()] == sorted(best)
    page.locator("#tables").scroll_into_view_if_needed()
    page.wait_for_selector("#own tbody tr")
    page.locator("#tables input[type=search]").fill("29")
    assert page.locator("#own tbody tr").count() == 1
    assert page.locator("#own tbody td").first.inner_text() == "</script>"


def test_everything_can_be_chosen(page):
    for box, values in (("#figure", ["mean_r", "predictors"]), ("#layer select[data-method]", ["1", "2"])):
        for value in values:
            page.locator(box).select_option(value)
    page.locator("#layer select[data-net=b]").select_option("seed=0")  # then a is another net
    assert page.locator("#layer select[data-net=a]").input_value() != "seed=0"
    for section in ("layer", "units", "tables", "made"):
        page.locator(f"#{section}").scroll_into_view_if_needed()
    page.wait_for_function("document.querySelectorAll('#spread .scatterlayer .trace').length == 1")


def test_results_without_pictures_or_moments_have_a_page(browser, folder, summaries, tmp_path):
    bare = {name: {key: x for key, x in summary.items() if key != "moments"} for name, summary in summaries.items()}
    data = gather(folder, "made", bare, 1e6)
    assert not data.chunks
    data.about["made"] = {"facts": [], "commands": [], "configs": []}
    write_page(data, tmp_path / "report.html")
    page, wrong = browser.new_page(), []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.goto((tmp_path / "report.html").as_uri())
    page.wait_for_selector("body[data-ready=yes]")
    page.locator("#layer").scroll_into_view_if_needed()
    page.wait_for_selector("#no-matrices:not([hidden])")
    page.locator("#units").scroll_into_view_if_needed()
    page.locator("#unit-table tbody tr").first.click()
    assert not wrong


def test_the_largest_weights_are_listed():
    map_ab = torch.randn(9, 7) * (torch.rand(9, 7) < 0.5)
    map_ab[:, 3] = 0
    sparse = map_ab.to_sparse().coalesce()
    partner_bm, weight_bm = largest(sparse.indices(), sparse.values(), 7)
    for unit in range(7):
        order = map_ab[:, unit].abs().argsort(descending=True, stable=True)[: partner_bm.shape[1]]
        chosen = order[map_ab[order, unit] != 0]
        assert partner_bm[unit, : len(chosen)].tolist() == chosen.tolist()
        assert torch.equal(weight_bm[unit, : len(chosen)], map_ab[chosen, unit])
        assert (partner_bm[unit, len(chosen) :] == -1).all()


def test_packed_numbers_come_back():
    back = np.frombuffer(base64.b64decode(packed([0.1234, -3.9, np.nan], np.int16, 1e4)), "<i2")
    assert back.tolist() == [1234, -32768, -32768]
