"""The W&B workspace as it would be sent, read back from its specification; nothing is asked of a server."""

import pytest

from convergent.cli.workspace import ALL_METHODS, QUESTIONS, panel, save_workspace, workspace_of
from convergent.errors import InputError

workspaces = pytest.importorskip("wandb_workspaces.workspaces", reason="the extra `dashboard` is not installed")


def test_panels_are_grouped_by_question():
    sent = (
        workspace_of("me", "convergent", "digits-convnet", ["conv1", "fc1"])._to_model().spec.model_dump(by_alias=True)
    )
    sections = {section["name"]: section["panels"] for section in sent["section"]["panelBankConfig"]["sections"]}
    assert list(sections) == ["Training", *QUESTIONS.values(), "All methods"]
    text = {name: str(panels) for name, panels in sections.items()}
    assert all(metric in text["Training"] for metric in ("train/loss", "val/loss", "val/acc_top1"))
    for question, title in QUESTIONS.items():
        for layer in ("conv1", "fc1"):
            assert panel(question, layer, "r_by_rank") in text[title]
            assert f"{question}/matches-{layer}" in text[title]
    for name in ("loss", "r2", "predictors"):
        of_both = [panel("few", layer, f"{name}_by_log10_alpha") for layer in ("conv1", "fc1")]
        (line,) = (chart for chart in sections["Few to one"] if of_both[0] in str(chart))
        assert of_both[1] in str(line)  # the layers in one chart
        assert line["config"]["xAxis"] == "log10_alpha"
    points = [chart["config"] for chart in sections["Few to one"] if chart["viewType"] == "Scatter Plot"]
    ends = [(point["xAxis"], point["yAxis"]) for point in points if "/fc1 " in point["xAxis"]]
    scalars = ("loss_held_out", "r2_held_out", "predictors")
    assert ends == [
        (f"summary:{panel(ALL_METHODS, 'fc1', 'solver_alpha')}", f"summary:{panel(ALL_METHODS, 'fc1', name)}")
        for name in scalars
    ]
    assert all(point["xAxisLogScale"] for point in points)
    assert panel(ALL_METHODS, "conv1", "r2_held_out") in text["All methods"]
    assert "digits-convnet" in str(sent)


def test_titles_that_are_cut_still_differ():
    sections = (
        workspace_of("me", "convergent", "digits-convnet", ["conv1", "fc1"])._to_model().spec.model_dump(by_alias=True)
    )["section"]["panelBankConfig"]["sections"]
    for section in sections:
        titles = [
            chart["config"].get("chartTitle") or chart["config"].get("title") or "" for chart in section["panels"]
        ]
        seen = [title[:20] for title in titles if title]
        assert len(set(seen)) == len(seen)
    keys = [panel(section, "conv1", name) for section in (*QUESTIONS, ALL_METHODS) for name in ("mean_r", "predictors")]
    assert len({key[:16] for key in keys}) == len(keys)


def test_a_place_that_is_none_is_one_sentence():
    with pytest.raises(InputError, match="workspace needs to be ENTITY/PROJECT of W&B, not 'convergent'"):
        save_workspace("convergent", "digits-convnet", ["conv1"])


def test_without_a_key_nothing_is_saved(monkeypatch):
    monkeypatch.setattr("wandb.login", lambda **_: False)
    with pytest.raises(InputError, match="W&B has no key for saving a workspace; run `wandb login` first"):
        save_workspace("me/convergent", "digits-convnet", ["conv1"])
