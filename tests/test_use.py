"""Using a coder: text comes as it is made, and nothing in it commands the terminal."""

import io
import sys
import unicodedata

import pytest
import torch
from hypothesis import given as given_examples
from hypothesis import strategies as st
from small import memorise, new_coder, save_stage

from minicoder.alignment.chat import answer_tokens, prompt_tokens
from minicoder.data.fim import fim_tokens, infill_prompt
from minicoder.errors import UserError
from minicoder.tokenizer import Tokenizer
from minicoder.use import (
    Coder,
    chat,
    complete,
    given,
    infill,
    pieces,
    printable,
    until,
)

BEFORE, MIDDLE, AFTER = "def f(x):\n", "    return x ** 2\n", "print(f(3))\n"
QUESTION, ANSWER = "Write é in \x1b[31mred", "x = 'ö€😀'\x1b[2J\x07 # done"


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer.train([BEFORE + MIDDLE + AFTER] * 3, 270)


@pytest.fixture(scope="module")
def folder(tokenizer, tmp_path_factory):
    """A coder that knows one continuation, one middle and one answer by heart."""
    model = memorise(new_coder(tokenizer), [
        ([tokenizer.bos, *tokenizer.encode(BEFORE)],
         [*tokenizer.encode(MIDDLE), tokenizer.eos]),
        (infill_prompt(BEFORE, AFTER, tokenizer),
         [*tokenizer.encode(MIDDLE), tokenizer.eos]),
        (prompt_tokens(QUESTION, tokenizer), answer_tokens(ANSWER, tokenizer))], 120)
    return save_stage(tmp_path_factory.mktemp("use") / "coder", model.eval(), tokenizer)


@pytest.fixture
def stdin(monkeypatch):
    def say(data: bytes):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data), "utf-8"))
    return say


def test_completing(folder, capsys):
    complete(BEFORE, folder, temperature=0.0)
    assert capsys.readouterr().out == BEFORE + MIDDLE + "\n"


def test_a_space_that_spoils_the_answer_is_warned_of(folder, capsys):
    for prompt, warned in ((f"User: {QUESTION}\n\nAssistant: ", True), (BEFORE, False)):
        complete(prompt, folder, new_tokens=1)
        assert ("without that space" in capsys.readouterr().err) == warned


def test_infilling(folder, capsys):
    infill(f"{BEFORE}<FILL>{AFTER}", folder)
    assert capsys.readouterr().out == BEFORE + MIDDLE + AFTER + "\n"


def test_the_prompt_to_infill_is_a_training_piece(tokenizer):
    piece = [tokenizer.bos, *fim_tokens(BEFORE, MIDDLE, AFTER, tokenizer)]
    prompt = infill_prompt(BEFORE, AFTER, tokenizer)
    assert piece[:len(prompt)] == prompt and prompt.count(tokenizer.bos) == 1


def test_chatting(folder, capsys):
    chat(QUESTION, folder)      # its answer holds what clears a terminal
    assert capsys.readouterr().out == "x = 'ö€😀'[2J # done\n"


def test_a_conversation_ends_with_its_input(folder, capsys, stdin):
    stdin(f"{QUESTION}\n\n  \n{QUESTION}\n".encode())
    chat(model=folder)
    assert capsys.readouterr().out.count("# done\n") == 2


def test_text_from_standard_input(folder, capsys, stdin):
    stdin(BEFORE.encode())
    complete("-", folder, temperature=0.0)
    assert capsys.readouterr().out == BEFORE + MIDDLE + "\n"
    stdin(b"a\xff\x1bb<FILL>\xc3")
    infill("-", folder, new_tokens=1)
    said = capsys.readouterr().out
    assert said.startswith("a\ufffdb") and said.endswith("\ufffd\n")
    stdin("é\xff".encode("latin-1"))
    assert given("-") == "\ufffd\ufffd" and given("--") == "--"


@pytest.mark.parametrize("code, count", [
    ("", 0), ("x = 1", 0), ("<fill>", 0), ("<FILL>\n<FILL>", 2)])
def test_there_must_be_one_hole(tmp_path, code, count):
    with pytest.raises(UserError, match=f"must have one <FILL>; it has {count}"):
        infill(code, tmp_path / "not even opened")


def test_what_is_echoed_is_harmless(folder, capsys):
    complete("a\x1b]0;title\x07\x9b1m\r\udcff\tb", folder, new_tokens=1)
    assert capsys.readouterr().out.startswith("a]0;title1m\tb")
    infill("a\x1b<FILL>\x08b\x85", folder, new_tokens=1)
    said = capsys.readouterr().out
    assert said.startswith("a") and said.endswith("b\n") and "\x1b" not in said


@given_examples(st.text(st.characters()))
def test_printable_text_has_no_control_characters(text):
    kept = printable(text)
    assert all(unicodedata.category(c) not in ("Cc", "Cs") for c in kept
               if c not in "\n\t")
    assert kept == printable(kept)
    kept.encode()       # can be written
    plain = "".join(c for c in text if c.isprintable() or c in "\n\t")
    assert printable(plain) == plain


def test_characters_wait_for_their_last_byte(tokenizer):
    tokens = tokenizer.encode("ö€😀")
    assert len(tokens) == 9     # a vocabulary that has never seen them: bytes
    assert list(pieces(tokenizer, iter(tokens))) == [
        "", "ö", "", "", "€", "", "", "", "😀", ""]
    assert "".join(pieces(tokenizer, iter(tokens[:-1]))) == "ö€\ufffd"


def test_text_comes_while_it_is_made(folder, monkeypatch):
    """The first piece is written before the last one has been computed."""
    events = []

    class Watched(io.StringIO):
        def write(self, text):
            events.append(text)
            return len(text)

    coder = Coder(folder, 0.0, 1.0, 0, (), 0)
    real = coder.answer

    def watched(*args):
        for piece in real(*args):
            events.append(None)
            yield piece

    monkeypatch.setattr(coder, "answer", watched)
    monkeypatch.setattr(sys, "stdout", Watched())
    prompt = [coder.tokenizer.bos, *coder.tokenizer.encode(BEFORE)]
    coder.show(prompt, 80, BEFORE)
    said = [event for event in events if event != ""]  # None: a piece was computed
    assert said[0] == BEFORE and said.index(None) < len(said) - 2
    assert None in said[next(i for i, e in enumerate(said) if i and e):]


def test_the_seed_decides_a_draw(folder, capsys):
    def drawn(seed):
        complete("x", folder, 20, temperature=3.0, top_p=1.0, seed=seed)
        return capsys.readouterr().out

    assert drawn(0) == drawn(0) != drawn(1)


def test_an_answer_ends_where_the_window_does(folder, capsys):
    coder = Coder(folder, 5.0, 1.0, 0, (), 0)
    prompt = [coder.tokenizer.bos] * 250
    assert len(list(coder.answer(prompt, 1000))) <= 6 + 1   # and what was left over
    with pytest.raises(UserError, match="do not fit into the model's window of 256"):
        complete("word " * 300, folder)


def test_threads_are_left_alone_elsewhere(folder):
    Coder(folder, 0.0, 1.0, 0, (), 0)
    assert torch.get_num_threads() == 1


def test_a_stop_string_ends_the_text_and_is_not_written(folder, capsys):
    complete(BEFORE, folder, temperature=0.0, stop=("** 2", "never"))
    assert capsys.readouterr().out == BEFORE + "    return x \n"
    with pytest.raises(UserError, match="--stop is empty"):
        complete(BEFORE, folder, stop=("",))


@given_examples(st.text("ab", max_size=12), st.data(),
                st.lists(st.text("ab", min_size=1, max_size=3), max_size=3))
def test_a_stop_string_is_found_however_the_text_is_cut(text, data, stops):
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=5)))
    parts = [text[i:j] for i, j in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    ends = [(text.index(s) + len(s), text.index(s)) for s in stops if s in text]
    expected = text[:min(ends, default=(0, len(text)))[1]]
    assert "".join(until(iter(parts), stops)) == expected
