"""Encoders on layers of nets are compared as layers are, and leave no trace in anything else."""

import copy

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from convergent.cli.encoders import content, encoders_of
from convergent.comparison import compare
from convergent.core.sparse_products import matrix_of
from convergent.errors import InputError
from convergent.methods.matching import Matching
from convergent.methods.semimatching import SemiMatching
from convergent.nets.encoders import SparseEncoder
from convergent.streaming.encoders import with_encoders
from convergent.streaming.measure import measure
from convergent.streaming.reading import Reading
from forked import both_nodes
from test_survival import PASS, moments


def net(seed):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(inplace=True), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(128, 5))


def plain():
    return {name: net(seed) for seed, name in enumerate("ab")}


def encoded(**features):
    """The same nets with an encoder on the rectified convolution."""
    return {name: with_encoders(module, sae=("1", SparseEncoder(8, **features))) for name, module in plain().items()}


X = torch.randn(60, 1, 10, 10, generator=torch.Generator().manual_seed(0))


def test_an_encoder_gives_the_record_of_what_it_makes_of_its_layer():
    nets = encoded(features=30, active=4)
    moments = measure(nets, X.split(20), ["sae"])["sae"]
    with torch.no_grad():
        z = [modules._convergent_encoders["sae"](modules[:2](X.clone())) for modules in nets.values()]
    both = torch.cat([z_n.transpose(0, 1).flatten(1) for z_n in z]).double()
    assert (moments.moments().total.cov_uu - torch.cov(both, correction=0)).abs().max() < 1e-12


def test_other_layers_and_their_random_rotations_are_what_they_were():
    layers, reading = ["1", "2"], Reading(blocks=5)
    before = compare(plain(), X.split(20), layers, reading=reading).frame()
    after = compare(encoded(features=30), X.split(20), [*layers, "sae"], reading=reading).frame()
    after = after[after.layer != "sae"].reset_index(drop=True)
    assert before.equals(after[before.columns])


def test_the_net_is_what_it_was():
    nets, others = encoded(features=30), plain()
    for name, module in others.items():
        assert torch.equal(nets[name](X), module(X))
        assert list(nets[name].state_dict()) == list(module.state_dict())


def test_wide_codes_have_a_sparse_record_that_is_matched():
    nets = encoded(features=600, active=6)
    methods = [Matching(), SemiMatching()]
    dense = compare(nets, X.split(20), ["sae"], methods, nulls=(), reading=Reading(blocks=5))
    sparse = compare(nets, X.split(20), ["sae"], methods, nulls=(), reading=Reading(blocks=5, block_memory=1e6))
    assert not dense["sae"].pair("a", "b").sparse
    assert sparse["sae"].pair("a", "b").sparse
    for column in ("mean_r", "r2_held_out", "r2_in_sample", "mean_best_r", "constant_a", "unmatched_b", "agreement"):
        there, here = (of.frame()[column].astype(float).fillna(0.0) for of in (sparse, dense))
        assert (there - here).abs().max() < 1e-10, column


def test_an_encoder_of_the_same_name_takes_the_place_of_the_other():
    (module,) = (encoded(features=30)["a"],)
    with_encoders(module, sae=("0:input", nn.Flatten()))
    assert measure({"a": module}, [X], ["sae"])["sae"].mean_ku.shape == (60, 100)


@pytest.mark.parametrize(
    ("about", "sentence"),
    [
        ({"sae": ("9", nn.Identity())}, "no layer '9'; near names are"),
        ({"forward": ("1", nn.Identity())}, "a word and nothing of the net's, not 'forward'"),
        ({"s.ae": ("1", nn.Identity())}, "a word and nothing of the net's, not 's.ae'"),
    ],
)
def test_what_cannot_be_put_on_a_net_is_refused(about, sentence):
    with pytest.raises(InputError, match=sentence):
        with_encoders(net(0), **about)


@pytest.mark.parametrize(
    ("encoder", "sentence"),
    [
        (SparseEncoder(7, 30), "layer 1 cannot read .* size"),
        (SparseEncoder(8, 30, active=31), "layer 1 .* out of range"),
    ],
)
def test_an_encoder_of_another_width_is_reported(encoder, sentence):
    with pytest.raises(InputError, match=sentence):
        measure({"a": with_encoders(net(0), sae=("1", encoder))}, [X], ["sae"])


ENCODER = {"_target_": "convergent.nets.encoders.SparseEncoder", "inputs": 8, "features": 30}


def test_weights_come_from_a_file_for_all_nets_or_one_for_each(tmp_path):
    trained, of_b = SparseEncoder(8, 30), SparseEncoder(8, 30)
    save_file(
        {**trained.state_dict(), "W_dec": torch.zeros(30, 8)}, tmp_path / "all.safetensors"
    )  # a whole autoencoder
    save_file(of_b.state_dict(), tmp_path / "b.safetensors")
    about = {"layer": "1", "encoder": ENCODER}
    files = {"a": str(tmp_path / "all.safetensors"), "b": str(tmp_path / "b.safetensors")}
    alike, own, random = (
        encoders_of({"sae": about | more}, ["a", "b"]) for more in ({"weights": files["a"]}, {"weights": files}, {})
    )
    for of, weights in ((alike, (trained, trained)), (own, (trained, of_b))):
        for name, expected in zip("ab", weights):
            assert torch.equal(of[name]["sae"][1].W_enc, expected.W_enc)
    assert not torch.equal(random["a"]["sae"][1].W_enc, random["b"]["sae"][1].W_enc)
    assert content(alike) == content(copy.deepcopy(alike)) != content(own) != content(random)


def test_weights_that_are_missing_are_refused(tmp_path):
    about = {"layer": "1", "encoder": ENCODER}
    with pytest.raises(InputError, match=r"no\.safetensors"):
        encoders_of({"sae": about | {"weights": str(tmp_path / "no.safetensors")}}, ["a"])
    with pytest.raises(InputError, match=r"encoders.sae.weights has no file for net b, only for a"):
        encoders_of({"sae": about | {"weights": {"a": str(tmp_path / "no.safetensors")}}}, ["b"])
    save_file({"W_enc": torch.zeros(8, 30)}, tmp_path / "part.safetensors")
    with pytest.raises(InputError, match="Missing key"):
        encoders_of({"sae": about | {"weights": str(tmp_path / "part.safetensors")}}, ["a"])


def products(tensors, block):
    return matrix_of(
        {name: tensors[f"products 0 1 {block} {name}"] for name in ("starts", "columns", "values")}, (512, 512)
    ).toarray()


@pytest.mark.command
def test_two_processes_of_a_command_have_the_sparse_record_of_one(tmp_path, command, script):
    encoder = "{_target_: convergent.nets.encoders.SparseEncoder, inputs: 4, features: 512, active: 2}"
    few = ("layers=[sae]", "evaluation.nulls=[shuffled]", "data.batch_size=30", "pictures=null", "method=semimatching")
    sparse = (*PASS, *few, "reading.block_memory=1e5", f"+encoders.sae={{layer: conv3, encoder: {encoder}}}")
    assert command("align", *sparse, f"root={tmp_path}/one")[0] == 0
    both_nodes(*script("align", *sparse, f"root={tmp_path}/two"))
    one, two = moments(tmp_path / "one"), moments(tmp_path / "two")
    assert len(one) == 2  # images as they are, and shuffled
    assert one.keys() == two.keys()
    for file, tensors in one.items():
        assert all(torch.equal(tensors[name], two[file][name]) for name in ("count_k", "mean_ku", "square_ku"))
        for block in range(8):  # whose columns may come in another order
            first, second = (products(of, block) for of in (tensors, two[file]))
            assert 0 < (first != 0).mean() < 0.1
            assert (first == second).all()
    scores = [
        (tmp_path / root / "outputs" / "align" / "it" / "it" / "scores.csv").read_bytes() for root in ("one", "two")
    ]
    assert scores[0] == scores[1]
