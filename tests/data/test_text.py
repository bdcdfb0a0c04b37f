"""Documents become tokens once: whole ones are held out, every token is read as often as it is there."""

import ast
import json
import logging

import pytest
import torch

from convergent.data.documents import Docstrings, HubDataset, TextFolder, installed
from convergent.data.order import Draw, TrainingOrder
from convergent.data.text import TextData
from convergent.data.tokens import Contexts, Corpus
from convergent.data.vocabulary import END, load_tokenizer
from convergent.data.windows import Windows
from convergent.errors import InputError

pytest.importorskip("tokenizers")
WORDS = [f"{start}{end}" for start in ("qui", "bro", "fox", "lam", "dog", "sev") for end in ("ck", "wn", "xen", "zy")]


class Texts:
    """Documents of random words."""

    def __init__(self, number=60, seed=0, longest=40):
        generator = torch.Generator().manual_seed(seed)
        lengths = torch.randint(1, longest, (number,), generator=generator).tolist()
        draws = [torch.randint(len(WORDS), (length,), generator=generator).tolist() for length in lengths]
        self.texts = [" ".join(WORDS[word] for word in words) + f" {n}" for n, words in enumerate(draws)]

    def __iter__(self):
        return iter(self.texts)

    def content(self):
        return self.texts


def corpus(tmp_path, texts=None, vocabulary=300, held_out=0.2):
    return Corpus.of(texts or Texts(), vocabulary, held_out, 0, tmp_path)


def document(corpus, number):
    start, stop = corpus.start_d[number : number + 2].tolist()
    return corpus.token_t[start + 1 : stop].tolist()


def test_docstrings_are_those_that_the_interpreter_has_sorted_and_each_once():
    import inspect

    import filelock._error as module

    texts = list(Docstrings({"filelock": installed("filelock")}))
    assert texts == sorted(set(texts))
    assert inspect.cleandoc(module.__doc__ or module.Timeout.__doc__) in texts
    tree = ast.parse(inspect.getsource(module))
    assert {ast.get_docstring(node) for node in ast.walk(tree) if isinstance(node, ast.ClassDef)} - {None} <= set(texts)


def test_docstrings_of_another_version_are_refused_in_one_sentence():
    with pytest.raises(
        InputError, match=r"docstrings of filelock 0\.1, but [\d.]+ is installed; install filelock==0\.1"
    ):
        Docstrings({"filelock": "0.1"})


def test_a_folder_gives_a_document_a_file_or_a_line(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "b.txt").write_text("one\n\ndocument")
    (tmp_path / "a.jsonl").write_text('{"text": "first", "n": 1}\n\n"second"\n')
    folder = TextFolder(str(tmp_path))
    assert list(folder) == ["first", "second", "one\n\ndocument"]
    before = folder.content()
    (tmp_path / "in" / "b.txt").write_text("two")
    assert TextFolder(str(tmp_path)).content() != before


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.md", b"text", "holds no text"),
        ("a.txt", b"\xff\xfe\xff", "a.txt cannot be read"),
        ("a.jsonl", b"{", "a.jsonl cannot be read"),
        ("a.jsonl", b'{"other": "x"}', "an object with"),
    ],
)
def test_what_is_no_text_is_refused_in_one_sentence(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message) as refused:
        list(TextFolder(str(tmp_path)))
    assert "\n" not in str(refused.value)


def test_a_data_set_by_name_needs_its_package(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "datasets", None)
    with pytest.raises(InputError, match="pip install datasets"):
        HubDataset("nowhere")


def test_a_document_is_held_out_or_not_whatever_the_others_are(tmp_path):
    texts = Texts()
    whole = corpus(tmp_path, texts)
    held = {texts.texts[n] for n in whole.numbers(held_out=True).tolist()}
    assert 0 < len(held) < 30
    texts.texts = texts.texts[::2]
    half = corpus(tmp_path, texts)
    assert {texts.texts[n] for n in half.numbers(held_out=True).tolist()} == held & set(texts.texts)


def test_no_token_of_a_held_out_document_is_trained_on(tmp_path):
    of = corpus(tmp_path)
    stream, end = of.stream().tolist(), of.vocabulary.token_to_id(END)
    expected = [token for n in of.numbers(held_out=False).tolist() for token in (end, *document(of, n))]
    assert stream == [*expected, end]


def test_empty_documents_are_left_out_and_said(tmp_path, caplog):
    texts = Texts()
    texts.texts = ["", *texts.texts, " \n"]
    with caplog.at_level(logging.WARNING):
        of = corpus(tmp_path, texts)
    assert len(of.held_out_d) == 60
    assert "2 of 62 documents are empty and left out" in caplog.text


def test_tokens_are_made_once_and_made_anew_of_other_documents(tmp_path):
    first, texts = corpus(tmp_path), Texts()
    texts.__class__ = type("Unread", (Texts,), {"__iter__": lambda _: pytest.fail("read again")})
    again = corpus(tmp_path, texts)
    assert again.digest == first.digest
    assert torch.equal(again.token_t, first.token_t)
    by_file = corpus(tmp_path, texts, vocabulary=first.tokenizer)  # as align reads them, by the run's own vocabulary
    assert by_file.digest == first.digest
    assert corpus(tmp_path, Texts(seed=1)).digest != first.digest


@pytest.mark.parametrize("longest", [5, 200])
def test_contexts_hold_every_token_of_every_document_once_with_the_token_that_follows(tmp_path, longest):
    of = corpus(tmp_path, Texts(longest=longest))
    contexts = Contexts(of, of.numbers(held_out=True), 16, masked=True)
    inputs, targets, number = contexts.__getitems__(list(range(len(contexts))))
    assert number.tolist() == list(range(len(contexts)))
    end = of.vocabulary.token_to_id(END)
    for n in of.numbers(held_out=True).tolist():
        mine = contexts.document_n == n
        there = inputs["attention_mask"][mine]
        assert inputs["input_ids"][mine][there].tolist() == [end, *document(of, n)]
        assert targets[mine][there].tolist() == [*document(of, n), end]
        assert (targets[mine][~there] == -100).all()
        assert mine.sum() == -(-(len(document(of, n)) + 1) // 16)
    uncounted = contexts.__getitems__([Draw(0, counted=False)])
    assert (uncounted[1] == -100).all()


def test_windows_hold_the_stream_and_what_follows(tmp_path):
    of = corpus(tmp_path)
    windows = Windows(of.stream(), 10)
    token_np, next_np, _ = windows.__getitems__([Draw(n) for n in range(len(windows))])
    assert torch.equal(token_np.flatten(), of.stream()[: token_np.numel()].long())
    assert torch.equal(next_np.flatten(), of.stream()[1 : token_np.numel() + 1].long())
    with pytest.raises(InputError, match="fewer than a context of 100000"):
        Windows(of.stream(), 100_000)


def test_epochs_of_some_items_go_on_through_one_permutation_after_another():
    order, every = TrainingOrder(10, 0, [0], size=4), []
    for epoch in range(5):
        order.set_epoch(epoch)
        every += [draw.image for draw in order]
    assert sorted(every[:10]) == sorted(every[10:]) == list(range(10))
    whole = TrainingOrder(10, 0, [0])
    assert every[:10] == [draw.image for draw in whole]


def test_the_pass_reads_each_document_in_one_block_and_its_order_is_any_number_of_processes(tmp_path):
    data = TextData(Texts, 8, 300, tmp_path, held_out=0.5, batch_size=5)
    data.blocks = 6
    blocks = [set(data.group_n[batch[2]].tolist()) for batch in data.predict_dataloader()]
    assert len(blocks) > 6
    assert sorted(number for batch in data.predict_dataloader() for number in batch[2].tolist()) == list(
        range(len(data.measured))
    )
    from convergent.core.blocks import block_of_group

    block_n = block_of_group(data.group_n, 6)
    for batch in data.predict_dataloader():
        assert len(set(block_n[batch[2]].tolist())) == 1


def test_the_share_that_is_held_out_needs_documents_on_both_sides(tmp_path):
    with pytest.raises(InputError, match=r"Of 2 documents 0 are held out, .* data\.held_out=0\.2"):
        corpus(tmp_path, Texts(2), held_out=1e-9)


def test_a_vocabulary_without_an_end_of_text_is_refused(tmp_path):
    file = corpus(tmp_path).tokenizer
    content = json.loads(file.read_text().replace(END, "<nothing>"))
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match="has none of"):
        corpus(tmp_path, vocabulary=tmp_path / "tokenizer.json")
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(InputError, match="is no vocabulary of tokenizers"):
        load_tokenizer(tmp_path / "tokenizer.json")
