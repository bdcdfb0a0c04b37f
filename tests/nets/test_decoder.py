"""Decoders of transformers: built from a configuration, saved, loaded, read by layers; nothing else is opened or run."""

import json

import pytest
import torch

from convergent.cli.nets import Built, names_of
from convergent.core.moments import Moments
from convergent.errors import InputError
from convergent.nets.decoder import MLP_UNITS, decoder, pretrained
from convergent.streaming.capture import Capture
from convergent.streaming.layers import resolve
from convergent.streaming.measure import measure
from convergent.streaming.reading import Reading
from convergent.streaming.rotations import BEFORE, LINEAR, Rotations

pytest.importorskip("transformers")
GPT2 = {
    "model_type": "gpt2", "vocab_size": 320, "n_positions": 32, "n_embd": 8, "n_layer": 2, "n_head": 2, "n_inner": 16,
    "bos_token_id": 0, "eos_token_id": 0,
}  # fmt: skip
OTHER = {
    "vocab_size": 320, "max_position_embeddings": 32, "hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2,
    "intermediate_size": 16,
}  # fmt: skip
FAMILIES = {"gpt2": GPT2, "gpt_neox": {"model_type": "gpt_neox", **OTHER}, "llama": {"model_type": "llama", **OTHER}}
BLOCKS = {"gpt2": "transformer.h.*", "gpt_neox": "gpt_neox.layers.*", "llama": "model.layers.*"}
HEADS = {"gpt2": "attn.c_proj", "gpt_neox": "attention.dense", "llama": "self_attn.o_proj"}


@pytest.fixture
def tokens():
    return torch.randint(320, (6, 9), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_net_comes_back_as_it_was_saved(tmp_path, family, tokens):
    net = decoder(FAMILIES[family])
    net.save_pretrained(tmp_path)
    again = pretrained(str(tmp_path))
    assert not again.training
    assert torch.equal(again(tokens).logits, net.eval()(tokens).logits)
    assert decoder(str(tmp_path))(tokens).logits.shape == (6, 9, 320)  # anew, of the saved configuration
    built, other = Built.of({"hf": str(tmp_path)}, 0), Built.of({"hf": str(tmp_path), "revision": "step3"}, 1)
    assert built.layers == (MLP_UNITS[family],)
    assert names_of([built, other]) == [tmp_path.name, f"{tmp_path.name}@step3"]


@pytest.mark.parametrize("family", FAMILIES)
def test_layers_are_the_units_behind_the_nonlinearity_the_heads_outputs_and_the_residual_stream(family, tokens):
    net, seen = decoder(FAMILIES[family]).eval(), {}
    heads = f"{BLOCKS[family]}.{HEADS[family]}:input"
    layers = resolve({"net": net}, [MLP_UNITS[family], BLOCKS[family], heads])
    with (
        torch.no_grad(),
        Capture({"net": net}, layers, lambda _, layer, x: seen.__setitem__(layer, x.clone())) as capture,
    ):
        capture.run({"net": tokens})
        hidden = net(tokens, output_hidden_states=True).hidden_states
    mlp, block, of_heads = (
        list(resolve({"net": net}, [pattern])) for pattern in (MLP_UNITS[family], BLOCKS[family], heads)
    )
    assert [len(names) for names in (mlp, block, of_heads)] == [2, 2, 2]
    assert {seen[name].shape for name in mlp} == {(6, 9, 16)}
    assert {seen[name].shape for name in [*block, *of_heads]} == {(6, 9, 8)}
    assert torch.equal(seen[block[0]], hidden[1])
    modules = dict(net.named_modules())
    down = {"gpt2": "mlp.c_proj", "gpt_neox": "mlp.dense_4h_to_h", "llama": "mlp.down_proj"}[family]
    for name, given in zip(block, mlp):  # what comes out of the MLP is what its last map makes of these units
        into = []
        handle = modules[f"{name}.{down}"].register_forward_pre_hook(lambda _, args, into=into: into.append(args[0]))
        net(tokens)
        handle.remove()
        assert torch.equal(into[0], seen[given])


@pytest.mark.parametrize("activation", ["gelu_new", "gelu_pytorch_tanh", "gelu", "relu", "silu", "quick_gelu"])
def test_mlp_units_are_rotated_before_their_nonlinearity_however_it_is_written(activation, tokens):
    nets = {name: decoder({**GPT2, "activation_function": activation}).eval() for name in "ab"}
    layers = resolve(nets, [MLP_UNITS["gpt2"], BLOCKS["gpt2"]])
    with torch.no_grad():
        first = lambda n: iter([(torch.arange(6), dict.fromkeys(nets, tokens))])  # noqa: E731
        rotations = Rotations(nets, layers, Reading(), first, lambda _: 1)
    assert {rotations.kind["a", layer] for layer in list(layers)[:2]} == {BEFORE}
    assert {rotations.kind["a", layer] for layer in list(layers)[2:]} == {LINEAR}
    seen = {}
    with (
        torch.no_grad(),
        Capture(nets, layers, lambda net, layer, x: seen.__setitem__((net, layer), x.clone()), rotations) as c,
    ):
        c.run(dict.fromkeys(nets, tokens))
    recorded, rotated = seen["a", "transformer.h.0.mlp.act"], seen["a, rotation 0", "transformer.h.0.mlp.act"]
    act = nets["a"].transformer.h[0].mlp.act
    values = act(torch.linspace(-6, 6, 20001))
    nearest = torch.cdist(rotated.flatten()[:, None], values[:, None]).amin(1)
    assert nearest.max() < 1e-3  # each is a value of the nonlinearity: nothing was multiplied by another unit's gate
    assert not torch.allclose(rotated, recorded, atol=1e-2)


def test_gated_units_are_rotated_before_both_their_parts(tokens):
    nets = {name: decoder(FAMILIES["llama"]).eval() for name in "ab"}
    layers = resolve(nets, [MLP_UNITS["llama"]])
    with torch.no_grad():
        first = lambda n: iter([(torch.arange(6), dict.fromkeys(nets, tokens))])  # noqa: E731
        rotations = Rotations(nets, layers, Reading(), first, lambda _: 1)
    assert set(rotations.kind.values()) == {BEFORE}
    assert {len(turns[0]) for turns in rotations._turns.values()} == {2}


def test_a_padded_batch_of_a_decoder_gives_what_its_texts_give_alone(tokens):
    nets, layer = {name: decoder(GPT2).double().eval() for name in "ab"}, "transformer.h.1.mlp.act"
    lengths = [9, 3, 5, 9, 1, 7]
    mask = torch.arange(9) < torch.tensor(lengths)[:, None]
    padded = measure(nets, [{"input_ids": tokens, "attention_mask": mask}], [layer], Reading(drop=[0]))
    rows = {name: [] for name in nets}
    keep = lambda net, _, x: rows[net].append(x[0, 1:].clone())  # noqa: E731
    with torch.no_grad(), Capture(nets, {layer: dict.fromkeys(nets, layer)}, keep) as capture:
        for n, length in enumerate(lengths):
            capture.run(dict.fromkeys(nets, tokens[n : n + 1, :length]))
    expected, total = Moments.of(torch.cat([torch.cat(rows[name]) for name in "ab"], 1)), padded[layer].moments().total
    assert total.count == sum(length - 1 for length in lengths)
    assert (total.cov_uu - expected.cov_uu).abs().max() < 1e-12 * expected.cov_uu.abs().max()


@pytest.mark.parametrize("config", [{"model_type": "vit"}, {"model_type": "nothing"}, {}, "/nowhere"])
def test_what_is_no_decoder_is_refused_in_one_sentence(config):
    with pytest.raises(InputError, match="makes no causal decoder") as refused:
        decoder(config)
    assert "\n" not in str(refused.value)


def test_pickled_weights_are_never_opened(tmp_path):
    net = decoder(GPT2)
    net.save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    torch.save(net.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(InputError, match=r"as a pickle only \(pytorch_model.bin\), which may run any code"):
        pretrained(str(tmp_path))


def test_code_that_comes_with_a_net_is_not_run(tmp_path):
    decoder(GPT2).save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config |= {"model_type": "mine", "auto_map": {"AutoConfig": "mine.Config", "AutoModelForCausalLM": "mine.Net"}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "mine.py").write_text("raise SystemExit('run')")
    with pytest.raises(InputError, match="cannot be loaded as a causal decoder"):
        pretrained(str(tmp_path))


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/nowhere/at/all", "There is no folder /nowhere"),
        ("owner/name", "no folder here, and the hub cannot be reached"),
    ],
)
def test_what_is_not_there_is_told_in_one_sentence(monkeypatch, path, message):
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match=message) as refused:
        pretrained(path)
    assert "\n" not in str(refused.value)


def test_without_transformers_one_sentence_says_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "transformers", None)
    with pytest.raises(InputError, match=r"pip install 'convergent\[language\]'"):
        decoder(GPT2)
