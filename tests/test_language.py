"""Language models by the commands, small: trained, resumed, aligned; documents and vocabularies are what they have to be."""

import hashlib
import json
import shutil
from types import SimpleNamespace

import pytest
import torch
from omegaconf import OmegaConf
from safetensors.torch import load_file

from convergent.cli.judging import some_of
from convergent.cli.nets import find_nets
from convergent.cli.train import build_data
from convergent.core.blocks import block_of_group
from convergent.data.vocabulary import END
from convergent.function.stitches import MAPS
from convergent.storage.csv_files import read_rows
from convergent.streaming.patches import Patches
from convergent.streaming.saved_moments import SavedMoments
from convergent.streaming.top_images import TopImages
from convergent.streaming.unit_contexts import UnitContexts
from forked import both_nodes

pytest.importorskip("transformers")
WORDS = [f"{start}{end}" for start in ("qui", "bro", "fox", "lam", "dog", "sev") for end in ("ck", "wn", "xen", "zy")]
TINY = [
    f"net.module.config.{name}={value}"
    for name, value in {"n_layer": 2, "n_embd": 8, "n_head": 2, "n_inner": 12}.items()
]
TEXT = [
    "data=text",
    "data.context=16",
    "data.vocabulary=300",
    "data.held_out=0.3",
    "data.epoch=64",
    "logger=csv",
]

BARE = ["analysis=[]", "figure=[]", "similarity=[]", "pictures=null", "evaluation.nulls=[]"]


def write_texts(folder, number=120, seed=0):
    folder.mkdir(parents=True, exist_ok=True)
    generator = torch.Generator().manual_seed(seed)
    lines = []
    for n in range(number):
        length = int(torch.randint(4, 40, (1,), generator=generator))
        text = " ".join(WORDS[word] for word in torch.randint(len(WORDS), (length,), generator=generator))
        lines.append(json.dumps({"text": f"{text} {n}"}))
    (folder / "texts.jsonl").write_text("\n".join(lines))


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("language")
    write_texts(folder / "texts")
    return folder


@pytest.fixture
def do(command, root):
    def do(name, *overrides, code=0):
        if name == "report":
            command(name, *overrides, f"root={root}")
            return ""
        where = [f"root={root}", *([] if "data.folder" in str(overrides) else [f"data.folder={root}/texts"])]
        left, out, err = command(
            name, "experiment=language", *(TINY if name == "train" else BARE), *TEXT, *where, *overrides
        )
        assert left == code, err
        return out if code == 0 else err

    return do


def weights(root, name, seed):
    return load_file(root / "outputs" / "train" / name / f"seed={seed}" / "weights.safetensors")


@pytest.fixture
def trained(do, root):
    said = do("train", "seeds=[0,1]", "epochs=2", "name=two", "keep_epochs=[0,1]")
    assert said.count("val/perplexity") == 2
    return root / "outputs" / "train" / "two"


def test_nets_of_one_stream_are_those_that_are_trained_alone_and_learn(trained, do, root):
    do("train", "seed=1", "epochs=2", "name=alone")
    one, both = weights(root, "alone", 1), weights(root, "two", 1)
    assert all(torch.equal(one[key], both[key]) for key in one)
    metrics = json.loads((trained / "seed=1" / "metrics.json").read_text())
    assert metrics["val/perplexity"] == pytest.approx(torch.tensor(metrics["val/loss"]).exp().item(), rel=1e-4)
    assert metrics["val/loss"] < torch.tensor(300.0).log()
    assert sorted(file.name for file in (trained / "seed=0").iterdir() if file.suffix == ".json") == [
        "metrics.json",
        "tokenizer.json",
    ]


def test_a_training_that_was_stopped_goes_on_to_the_same_weights(trained, do, root, monkeypatch):
    from convergent.training.checkpoints import KeepCheckpoints

    saved = KeepCheckpoints.save

    def stop(self, trainer):
        saved(self, trainer)
        raise KeyboardInterrupt

    monkeypatch.setattr(KeepCheckpoints, "save", stop)
    do("train", "seed=0", "epochs=2", "name=stopped", code=130)
    monkeypatch.setattr(KeepCheckpoints, "save", saved)
    assert "going on from the last checkpoint" in do("train", "seed=0", "epochs=2", "name=stopped")
    one, both = weights(root, "stopped", 0), weights(root, "two", 0)
    assert all(torch.equal(one[key], both[key]) for key in one)


def test_two_processes_train_and_measure_what_one_does(trained, do, root, script):
    where = [f"root={root}", f"data.folder={root}/texts", "experiment=language", *TEXT]
    train = script("train", *where, *TINY, "seed=1", "epochs=2", "name=processes")
    measure = ["method=matching", "pictures=top", "evaluation.nulls=[rotated]", "evaluation.rotations=1"]
    layer = "layers=[transformer.h.1.mlp.act]"
    bare = [option for option in BARE if not option.startswith(("pictures", "evaluation"))]
    align = script("align", *where, *bare, f"nets={trained}", *measure, layer, "label=processes", "reading.blocks=8")
    both_nodes(*train)
    both_nodes(*align)
    one, two = weights(root, "two", 1), weights(root, "processes", 1)
    assert all(torch.allclose(one[key], two[key], atol=1e-4) for key in one)
    aligned = root / "outputs" / "align" / "two"
    of_two = json.loads((aligned / "processes" / "summary.json").read_text())
    contexts = (aligned / "processes" / "contexts.csv").read_text()
    shutil.rmtree(root / of_two["moments"])
    do("align", f"nets={trained}", *measure, layer, "label=one-process", "reading.blocks=8")
    of_one = json.loads((aligned / "one-process" / "summary.json").read_text())
    assert of_one["moments"] == of_two["moments"]
    for one_pair, two_pair in zip(of_one["pairs"], of_two["pairs"], strict=True):
        assert one_pair == {
            name: value if isinstance(value, str) else pytest.approx(value, abs=1e-9)
            for name, value in two_pair.items()
        }
    assert (aligned / "one-process" / "contexts.csv").read_text() == contexts


def test_moments_are_of_the_held_out_tokens_in_blocks_of_whole_documents(trained, do, root):
    said = do("align", f"nets={trained}", "method=matching", "reading.blocks=8", "label=blocks")
    assert "mean r" in said
    summary = json.loads((root / "outputs" / "align" / "two" / "blocks" / "summary.json").read_text())
    nets = find_nets(str(trained))
    data = build_data(nets[0].config, vocabulary=nets[0].tokenizer)
    batch = data.measured.__getitems__(list(range(len(data.measured))))
    kept = batch[0]["attention_mask"].clone()
    kept[:, 0] = False
    layer = "transformer.h.1.mlp.act"
    moments = SavedMoments().load(root / summary["moments"] / f"{layer}.safetensors", layer, summary["nets"])
    block_n = block_of_group(data.group_n, 8)
    assert moments.count_k.tolist() == [int(kept[block_n == block].sum()) for block in range(8)]
    with torch.no_grad():
        acts = []
        for net in (net.net() for net in nets):
            net.transformer.h[1].mlp.act.register_forward_hook(lambda _, __, x: acts.append(x))
            net(batch[0]["input_ids"])
    expected = torch.corrcoef(torch.cat([x[kept] for x in acts], 1).double().T)[:12, 12:]
    assert (moments.pair(0, 1).corr_ab - expected).abs().max() < 1e-5


def test_contexts_are_those_of_the_highest_activations_beside_the_partners(trained, do, root):
    do(
        "align",
        f"nets={trained}",
        "method=matching",
        "label=contexts",
        "pictures=top",
        "layers=[transformer.h.0.mlp.act]",
    )
    folder = root / "outputs" / "align" / "two" / "contexts"
    rows = list(read_rows(folder / "contexts.csv"))
    scores = {(row["b"], row["unit"]): row for row in read_rows(folder / "scores.csv")}
    nets = find_nets(str(trained))
    contexts = build_data(nets[0].config, vocabulary=nets[0].tokenizer).measured
    batch = contexts.__getitems__(list(range(len(contexts))))[0]
    there = batch["attention_mask"].clone()
    there[:, 0] = False
    for net in nets:
        acts, module = [], net.net()
        module.transformer.h[0].mlp.act.register_forward_hook(lambda _, __, x, acts=acts: acts.append(x))
        with torch.no_grad():
            module(batch["input_ids"])
        for row in (row for row in rows if row["b"] == net.name):
            x_np = acts[0][:, :, int(row["unit"])].masked_fill(~there, -torch.inf)
            assert float(row["activation"]) == pytest.approx(x_np.max().item(), abs=1e-4)
            number, position = divmod(int(x_np.argmax()), 16)
            token = contexts.around(number, position, 3, 3)[1]
            assert row["contexts"].split("»")[0].endswith(f"«{token}")
            assert row["partner_1"] == scores[row["b"], row["unit"]]["partner"]
    assert (folder / "figures" / "contexts-transformer.h.0.mlp.act.png").stat().st_size > 1000
    do("report", "name=two")
    report = root / "outputs" / "report" / "two"
    assert "held-out contexts" in (report / "report.html").read_text()
    assert " images" not in (report / "table.md").read_text()


def test_saved_decoders_and_runs_are_compared_on_the_same_documents(trained, do, root, tmp_path):
    net = find_nets(str(trained))[0].net()
    net.save_pretrained(tmp_path / "saved")
    nets = f"nets=['{trained}/seed=0','{trained}/seed=1',{{hf: {tmp_path}/saved}}]"
    do("align", nets, "method=matching", "name=hub", "label=x")
    summary = json.loads((root / "outputs" / "align" / "hub" / "x" / "summary.json").read_text())
    of_pair = {
        (pair["a"], pair["b"]): pair["mean_r"] for pair in summary["pairs"] if pair["layer"].endswith("1.mlp.act")
    }
    assert of_pair["seed=0", "saved"] == pytest.approx(1, abs=1e-6)
    assert of_pair["seed=1", "saved"] == pytest.approx(of_pair["seed=1", "seed=0"], abs=1e-6)


def tokenizer_of(texts, size, file):
    from convergent.data.vocabulary import train_tokenizer

    train_tokenizer(texts, size).save(str(file))


@pytest.fixture
def two_vocabularies(root, tmp_path):
    """Two saved decoders with tokenizers of their own, each trained on other words of the same texts."""
    from convergent.data.vocabulary import load_tokenizer
    from convergent.nets.decoder import decoder

    texts = [json.loads(line)["text"] for line in (root / "texts" / "texts.jsonl").read_text().splitlines()]
    sizes = {"n_positions": 256, "n_embd": 8, "n_layer": 2, "n_head": 2, "n_inner": 12}
    nets = {}
    for name, size in (("a", 290), ("b", 300)):
        net = decoder({"model_type": "gpt2", "vocab_size": 301, **sizes}).eval()
        net.save_pretrained(tmp_path / name)
        some = [" ".join(word for word in text.split() if (word[0] in "qbf") == (name == "a")) for text in texts]
        tokenizer_of(some, size, tmp_path / name / "tokenizer.json")
        nets[name] = net, load_tokenizer(tmp_path / name / "tokenizer.json")
    return nets, texts


SHARED = ("tokens=shared_ends", "method=matching", "name=shared")


def test_nets_of_different_vocabularies_are_compared_where_both_end_a_token(two_vocabularies, do, root, tmp_path):
    nets, texts = two_vocabularies
    given = f"nets=[{{hf: {tmp_path}/a}},{{hf: {tmp_path}/b}}]"
    do("align", given, *SHARED, "label=ends", "reading.blocks=4", "data.context=256")
    summary = json.loads((root / "outputs" / "align" / "shared" / "ends" / "summary.json").read_text())
    saved, layer = root / summary["moments"], "transformer.h.1.mlp.act"
    moments = SavedMoments().load(saved / f"{layer}.safetensors", layer, summary["nets"])
    of_nets, acts = {"a": [], "b": []}, []
    for net, _ in nets.values():
        net.transformer.h[1].mlp.act.register_forward_hook(lambda _, __, x: acts.append(x[0]))
    held_out = [text for text in texts if is_held_out(text, 0.3)]
    for text in held_out:
        encoded = {name: tokenizer.encode(text) for name, (_, tokenizer) in nets.items()}
        ends = {name: [end for _, end in of.offsets] for name, of in encoded.items()}
        both = sorted(set(ends["a"]) & set(ends["b"]))
        for name, (net, tokenizer) in nets.items():
            with torch.no_grad():
                net(torch.tensor([[tokenizer.token_to_id("<|endoftext|>"), *encoded[name].ids]]))
            of_nets[name].append(acts.pop()[[1 + ends[name].index(end) for end in both]])
    x_nu = torch.cat([torch.cat(of_nets[name]) for name in "ab"], 1).double()
    tokens = [sum(len(tokenizer.encode(text)) for text in held_out) for _, tokenizer in nets.values()]
    assert len(x_nu) == moments.count_k.sum() < min(tokens)
    expected = torch.corrcoef(x_nu.T)[:12, 12:]
    assert (moments.pair(0, 1).corr_ab - expected).abs().max() < 1e-5
    said = do("align", given, *SHARED, "label=function", "function=true", code=1)
    assert "predict the same tokens" in said


def test_vocabularies_that_cut_texts_alike_give_what_one_vocabulary_gives(two_vocabularies, do, root, tmp_path):
    given = f"nets=[{{hf: {tmp_path}/a}},{{hf: {tmp_path}/b}}]"
    options = (
        "evaluation.nulls=[rotated]",
        "evaluation.rotations=2",
        "pictures=top",
        "reading.sample=9",
        "method=matching",
    )
    one_layer = "layers=[transformer.h.1.mlp.act]"
    of_a = json.loads((tmp_path / "a" / "tokenizer.json").read_text())
    (tmp_path / "b" / "tokenizer.json").write_text(json.dumps(of_a))
    do("align", given, *options, "name=alike", "label=one", "data.context=32", one_layer)
    end = max(of_a["model"]["vocab"].values())
    of_a["model"]["vocab"]["never"] = end + 1
    (tmp_path / "b" / "tokenizer.json").write_text(json.dumps(of_a))
    do("align", given, *SHARED, *options, "name=alike", "label=two", "data.context=32", one_layer)
    one, two = (root / "outputs" / "align" / "alike" / label for label in ("one", "two"))
    for file in ("scores.csv", "contexts.csv"):
        assert (one / file).read_text() == (two / file).read_text()
    of_one, of_two = (json.loads((of / "summary.json").read_text()) for of in (one, two))
    assert of_one["pairs"] == of_two["pairs"]
    assert of_one["moments"] != of_two["moments"]
    assert of_one["pairs"][0]["mean_best_r_rotated"] > 0


def is_held_out(text, share):
    digest = hashlib.sha256(f"0 {text}".encode()).digest()
    return int.from_bytes(digest[:6], "big") < share * 2**48


def test_what_cannot_be_compared_is_refused_in_one_sentence(trained, do, tmp_path):
    from convergent.nets.decoder import decoder

    for name, size in (("a", 290), ("b", 300)):
        config = {
            "model_type": "gpt2",
            "vocab_size": 300,
            "n_positions": 8 + 8 * (name == "a"),
            "n_embd": 8,
            "n_layer": 2,
            "n_head": 2,
        }
        decoder(config).save_pretrained(tmp_path / name)
        tokenizer_of(WORDS, size, tmp_path / name / "tokenizer.json")
    a, b = (f"{{hf: {tmp_path}/{name}}}" for name in "ab")
    said = do("align", f"nets=[{a},{b}]", "name=x", "label=x", code=1)
    assert "Nets a and b have different vocabularies" in said
    (tmp_path / "b" / "tokenizer.json").write_bytes((tmp_path / "a" / "tokenizer.json").read_bytes())
    said = do("align", f"nets=[{a},{b}]", "name=x", "label=x", code=1)
    assert "Net b takes contexts of 8 tokens at most" in said
    said = do("align", f"nets=[{a},{a}]", "name=x", "label=x", "evaluation.nulls=[shuffled]", code=1)
    assert "still share their position in a text; leave it out" in said
    said = do("train", "seed=0", "name=none", f"data.folder={tmp_path}/a/none", code=1)
    assert "holds no text (.txt or .jsonl)" in said
    assert all(text.count("\n") == 1 for text in (said,))


def test_weights_that_are_nan_are_refused_in_one_sentence(do, tmp_path):
    from convergent.nets.decoder import decoder

    for name in "ab":
        net = decoder(
            {"model_type": "gpt2", "vocab_size": 300, "n_positions": 16, "n_embd": 8, "n_layer": 1, "n_head": 2}
        )
        net.transformer.h[0].mlp.c_fc.weight.data[0, 3] = torch.nan if name == "b" else 0
        net.save_pretrained(tmp_path / name)
    said = do("align", f"nets=[{{hf: {tmp_path}/a}},{{hf: {tmp_path}/b}}]", "name=x", "label=y", code=1)
    assert "of net b gives NaN or infinite activations" in said
    assert said.count("\n") == 1


def test_texts_need_no_preparation(command, root):
    code, _, err = command("prepare", "data=text", f"data.folder={root}/texts", f"root={root}")
    assert code == 1
    assert "are texts" in err or "data" in err


def test_a_population_finds_partners_in_any_layer(trained, do, root):
    do("align", f"nets={trained}", "method=semimatching", "label=population", "+populations.mlp='transformer.h.*.mlp.act'",
       "figure=[depth]", "pictures=top")  # fmt: skip
    folder = root / "outputs" / "align" / "two" / "population"
    best = {(row["b"], int(row["unit"])): int(row["best"]) for row in read_rows(folder / "scores.csv")}
    assert len(best) == 2 * 24
    rows = list(read_rows(folder / "depth.csv"))
    for row in rows:
        of_layer = [best[row["b"], unit] // 12 for unit in range(24) if unit // 12 == int(row["layer_b"])]
        assert float(row["share"]) == pytest.approx(of_layer.count(int(row["layer_a"])) / 12, abs=1e-6)
    assert len(rows) == 2 * 4
    assert (folder / "figures" / "depth.png").exists()
    code = do("align", f"nets={trained}", "+populations.mlp=x", "function=true", "label=no", code=1)
    assert "leave populations out" in code


def test_next_tokens_are_judged_with_units_swapped_on_held_out_documents(trained, do, root):
    do("align", f"nets={trained}", "method=matching", "label=judged", "function=units", "function_images=24",
       "layers=[transformer.h.0.mlp.act,transformer.h.1]", "evaluation.nulls=[rotated]")  # fmt: skip
    folder = root / "outputs" / "align" / "two" / "judged"
    rows = list(read_rows(folder / "function.csv"))
    assert {row["map"] for row in rows} == set(MAPS)
    assert len({(row["layer"], row["a"], row["b"]) for row in rows}) == 2 * 2
    data = build_data(OmegaConf.load(root / "outputs" / "train" / "two" / "seed=0" / "config.yaml"))
    batch = data.measured.__getitems__(some_of(data.untrained_on(), 24).tolist())
    counted = batch[1] >= 0
    assert {int(row["images"]) for row in rows} == {int(counted.sum())}
    net = next(iter(find_nets(str(trained), None))).net().eval()
    with torch.no_grad():
        logits = net(batch[0]["input_ids"])
        logits = logits if isinstance(logits, torch.Tensor) else logits.logits
    loss = torch.nn.functional.cross_entropy(logits[counted], batch[1][counted])
    identity = [row for row in rows if row["map"] == "identity" and row["b"] == "seed=0"]
    assert [float(row["loss"]) for row in identity] == pytest.approx([loss.item()] * len(identity), abs=2e-5)
    for row in identity:  # float32's rounding, beside the little that ablation costs in nets so small
        assert float(row["kept"]) == pytest.approx(1, abs=1e-3)
        assert float(row["same_decision"]) == 1
    assert {float(row["loss_recovered"]) for row in rows if row["map"] == "ablated"} == {0.0}
    assert (folder / "substitution.csv").exists()


def test_control_characters_are_shown_as_something_that_fonts_have():
    top = TopImages(torch.ones(1, 1), torch.zeros(1, 1, dtype=torch.long), torch.zeros(1, 1, dtype=torch.long))
    around = SimpleNamespace(around=lambda *_: ("a\r\n\tb", "\x81", f"é\x00{END}"))
    (excerpt,) = UnitContexts(around, Patches(top, None, 1, torch.empty(0))).of(0)
    assert str(excerpt) == "a↵ b«�»é�¶"
