"""Nets of different vocabularies are compared at positions where both tokenizers end a token: against brute force."""

import numpy as np
import pytest
import torch

from convergent.data.shared_ends import SharedContexts, _cut
from convergent.data.tokens import Corpus
from convergent.data.vocabulary import load_tokenizer

pytest.importorskip("tokenizers")
SYLLABLES = ("qui", "bro", "fö", "lam", "dog", "日本", "ck ", "wn", "\n  xen", "zy, ", "😀", " e")


class Texts:
    """Documents of random syllables, some of several bytes, some with many spaces."""

    def __init__(self, number=60, longest=60):
        generator = torch.Generator().manual_seed(3)
        lengths = torch.randint(1, longest, (number,), generator=generator).tolist()
        draws = [torch.randint(len(SYLLABLES), (length,), generator=generator).tolist() for length in lengths]
        self.texts = ["".join(SYLLABLES[of] for of in draw) + f" {n}" for n, draw in enumerate(draws)]

    def __iter__(self):
        return iter(self.texts)

    def content(self):
        return self.texts


@pytest.fixture(params=[24, 1000])
def contexts(tmp_path, request):
    sizes = {"0": 262, "1": 330}  # one splits most characters of several bytes
    corpora = {view: Corpus.of(Texts(), size, 0.5, 0, tmp_path, ends=True) for view, size in sizes.items()}
    return SharedContexts(corpora, corpora["0"].numbers(held_out=True), request.param)


def ends_by_brute_force(token_p, tokenizer, text):
    """Behind how many characters of a text each token ends; None within a character."""
    ends, done = [], []
    for token in token_p:
        done.append(token)
        decoded = tokenizer.decode(done)
        ends.append(len(decoded) if text.startswith(decoded) and "\ufffd" not in decoded else None)
    return ends


def test_samples_are_the_tokens_that_end_at_the_same_character_in_both(contexts):
    documents, texts = contexts.views["0"].corpus, Texts().texts
    inputs, _, number = contexts.__getitems__(list(range(len(contexts))))
    assert number.tolist() == list(range(len(contexts)))
    there, split = inputs["attention_mask"], 0
    tokenizers = {view: load_tokenizer(of.corpus.tokenizer) for view, of in contexts.views.items()}
    for document in documents.numbers(held_out=True).tolist():
        mine = (contexts.document_n == document).nonzero()[:, 0].tolist()
        every, samples = {}, {}
        for view, of in contexts.views.items():
            start, stop = of.corpus.start_d[document : document + 2].tolist()
            token_p = of.corpus.token_t[start:stop].tolist()
            every[view] = [0, *ends_by_brute_force(token_p[1:], tokenizers[view], texts[document])]
            read, samples[view] = [], []
            for n in mine:
                assert 0 < of.length_n[n] <= contexts.context
                place_p = len(read) + inputs[f"places/{view}"][n][there[n]]
                samples[view] += [every[view][p] for p in place_p.tolist()]
                read += inputs[f"input_ids/{view}"][n, : of.length_n[n]].tolist()
            assert read == token_p
        assert samples["0"] == samples["1"] == sorted((set(every["0"]) & set(every["1"])) - {None})
        split += len(mine) > 1
    assert contexts.split == (split, len(documents.numbers(held_out=True)))
    assert contexts.left_out == 0
    assert (split > 0) == (contexts.context == 24)
    assert any(-1 in of.corpus.end_t for of in contexts.views.values())


def test_a_context_ends_where_the_next_shared_end_would_be_too_far(contexts):
    for n in range(len(contexts) - 1):
        if contexts.document_n[n] == contexts.document_n[n + 1]:
            following = [int(of.length_n[n] + of.place_s[of.first_n[n + 1]] + 1) for of in contexts.views.values()]
            assert max(following) > contexts.context


def test_the_text_around_a_sample_is_that_of_its_own_token(contexts):
    inputs = contexts.__getitems__(list(range(len(contexts))))[0]
    for view, of in contexts.views.items():
        tokenizer = load_tokenizer(of.corpus.tokenizer)
        for number in range(0, len(contexts), 7):
            for position in range(int(contexts.ends_n[number])):
                token = int(inputs[f"input_ids/{view}"][number, inputs[f"places/{view}"][number, position]])
                assert of.around(number, position, 3, 3)[1] == tokenizer.decode([token], skip_special_tokens=False)


def test_what_no_context_holds_between_two_shared_ends_is_left_out():
    ends = [np.array([0, 1, 2, 3, 4, 5, 6, 7]), np.array([0, 2, 7])]
    place_ve, cuts = _cut(ends, 3)
    assert place_ve.tolist() == [[0, 2, 7], [0, 1, 2]]
    assert cuts == [(0, 2)]
    assert _cut(ends, 5)[1] == [(0, 2), (2, 3)]
    assert _cut([np.array([0, 1, 5, -1, 6, 7]), np.array([0, -1, -1, -1, 5, 6, 7])], 2)[1] == [(0, 1), (2, 3), (3, 4)]
