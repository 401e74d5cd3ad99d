"""Recall batches: targets on answers alone, and a loss that joins late."""

import numpy as np
import pytest
import torch
from small import new_coder

from minicoder.data.fim import fim_tokens, infill_prompt
from minicoder.data.needles import LETTERS, QUESTION, STATEMENT
from minicoder.data.packing import Shards
from minicoder.model.balance import Balance
from minicoder.stages import write_json
from minicoder.tokenizer import Tokenizer
from minicoder.training import answers
from minicoder.training.answers import (
    AROUND,
    Middles,
    Recall,
    unshuffled,
    with_answers,
)
from minicoder.training.loop import IGNORE, token_losses
from minicoder.training.objective import Objective

LENGTH = 160
HAY = "".join(f"def f{i}(x):\n    return x * {i}\n" for i in range(80))


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer.train([HAY, *(STATEMENT.format(x) for x in LETTERS)], 285)


@pytest.fixture(scope="module")
def shards(tokenizer, tmp_path_factory):
    """Rows as the pack stage writes them: pieces with their control tokens."""
    folder = tmp_path_factory.mktemp("pack")
    ids = [tokenizer.bos, *tokenizer.encode(HAY), tokenizer.eos]
    rows = np.array((ids * 3)[:6 * (LENGTH + 1)], "<u2").reshape(6, LENGTH + 1)
    (folder / "train.bin").write_bytes(rows.tobytes())
    write_json(folder / "pack.json", {"sequences": 6, "sequence_length": LENGTH,
                                      "dtype": "<u2"})
    return Shards(folder)


@pytest.fixture(scope="module")
def recall(tokenizer, shards):
    return Recall(tokenizer, shards, 3, LENGTH, seed=0)


def test_the_straw_is_lines_without_control_tokens(recall, tokenizer, shards):
    flat = np.asarray(shards.rows).flatten()
    text = [i for line in recall.lines for i in line]
    assert text == flat[flat < tokenizer.bos].tolist()
    assert all(tokenizer.decode(line).endswith("\n") for line in recall.lines[:-1])


def test_the_straw_has_no_rivals_of_the_answer(tokenizer, tmp_path):
    ids = [i for text in ('say("K")\n', "x = 1\n", 'y = "A"\n', "z = 2\n")
           for i in tokenizer.encode(text)]
    (tmp_path / "train.bin").write_bytes(np.array([ids], "<u2").tobytes())
    write_json(tmp_path / "pack.json", {
        "sequences": 1, "sequence_length": len(ids) - 1, "dtype": "<u2"})
    lines = Recall(tokenizer, Shards(tmp_path), 1, 64, seed=0).lines
    assert tokenizer.decode(i for line in lines for i in line) == "x = 1\nz = 2\n"


def test_targets_are_the_answers_and_nothing_else(recall, tokenizer):
    question, seen = tokenizer.encode(QUESTION), 0
    for step in range(8):
        tokens, targets = recall(step)
        assert tokens.shape == targets.shape == (3, LENGTH)
        for row, wanted in zip(tokens.tolist(), targets.tolist(), strict=True):
            for place, target in enumerate(wanted):
                asked = row[max(0, place + 1 - len(question)):place + 1] == question
                if target == IGNORE:
                    continue
                seen += 1
                assert asked and tokenizer.decode([target]) in LETTERS
                start = max(i for i in range(place) if row[i] == tokenizer.bos)
                said = tokenizer.decode(row[start + 1:place + 1]).split(QUESTION)[1][0]
                assert tokenizer.decode([target]) == said
                if place + 1 < LENGTH:  # shown at the end, elsewhere left open
                    assert row[place + 1] in (target, *tokenizer.encode("\n"))
    assert seen > 24


@pytest.fixture(scope="module")
def shuffled(tokenizer, tmp_path_factory):
    """Rows of FIM pieces, a plain one between them and a cut one at the end."""
    folder = tmp_path_factory.mktemp("shuffled")
    lines = [f"def f{i}(x):\n" for i in range(8)]
    one = [tokenizer.bos, *fim_tokens("".join(lines[:2]), lines[2], "".join(lines[3:]),
                                      tokenizer)]
    row = np.array([*one, tokenizer.bos, *tokenizer.encode(HAY)[:9], *one, *one[:20]])
    (folder / "train.bin").write_bytes(row.astype("<u2").tobytes())
    write_json(folder / "pack.json", {"sequences": 1, "sequence_length": len(row) - 1,
                                      "dtype": "<u2"})
    return Shards(folder), lines


def test_shuffled_pieces_are_put_together_again(tokenizer, shuffled):
    texts = [tokenizer.decode(piece.tolist())
             for piece in unshuffled(np.asarray(shuffled[0].rows), tokenizer)]
    assert texts == ["".join(shuffled[1])] * 2


def test_middles_are_single_lines_between_their_neighbours(tokenizer, shuffled):
    rows, lines = shuffled
    tokens, targets = Middles(tokenizer, rows, 60, seed=0)(0)
    seen = set()
    for row, wanted in zip(tokens.tolist(), targets.tolist(), strict=True):
        answer = [i for i in wanted if i != IGNORE]
        assert answer.pop() == tokenizer.eos
        place = lines.index(tokenizer.decode(answer))
        prompts = [infill_prompt("".join(lines[max(0, place - n):place]),
                                 "".join(lines[place + 1:place + 1 + n]), tokenizer)
                   for n in range(1, AROUND + 1)]
        (around,) = [n for n, prompt in enumerate(prompts, 1)
                     if row[:len(prompt)] == prompt
                     and wanted[len(prompt) - 1:][:len(answer)] == answer][-1:]
        seen |= {("line", place), ("around", around)}
    assert len(seen) > 5 + AROUND - 1


def test_lines_are_cut_from_the_first_rows_alone(tokenizer, shuffled, tmp_path,
                                                 monkeypatch):
    row = np.asarray(shuffled[0].rows[0])
    (tmp_path / "train.bin").write_bytes(np.tile(row, 3).tobytes())
    write_json(tmp_path / "pack.json", {"sequences": 3, "dtype": "<u2",
                                        "sequence_length": len(row) - 1})
    whole = len(Middles(tokenizer, Shards(tmp_path), 1, seed=0).pieces)
    monkeypatch.setattr(answers, "CUT", 2 * len(row))
    assert 3 * len(Middles(tokenizer, Shards(tmp_path), 1, 0).pieces) == 2 * whole


def test_without_fim_there_are_no_middles(tokenizer, shards):
    assert Middles(tokenizer, shards, 3, seed=0).pieces == []


def test_batches_are_a_function_of_step_and_seed(recall, tokenizer, shards):
    again = Recall(tokenizer, shards, 3, LENGTH, seed=0)
    other = Recall(tokenizer, shards, 3, LENGTH, seed=1)
    for one, two in zip(recall(5), again(5), strict=True):
        assert torch.equal(one, two)
    assert not torch.equal(recall(5)[0], recall(6)[0])
    assert not torch.equal(recall(5)[0], other(5)[0])
    assert not torch.equal(recall(5)[0][0], recall(5)[0][1])


def test_blank_lines_are_not_asked_for(tokenizer, tmp_path):
    piece = [tokenizer.bos, *fim_tokens("a = 1\n", "\n", "   \n", tokenizer)]
    (tmp_path / "train.bin").write_bytes(np.array(piece).astype("<u2").tobytes())
    write_json(tmp_path / "pack.json", {
        "sequences": 1, "sequence_length": len(piece) - 1, "dtype": "<u2"})
    _, targets = Middles(tokenizer, Shards(tmp_path), 9, seed=0)(0)
    assert {tokenizer.decode(i for i in row if i not in (IGNORE, tokenizer.eos))
            for row in targets.tolist()} == {"a = 1\n"}


def test_the_loss_joins_in_its_steps(recall, tokenizer):
    model = new_coder(tokenizer)
    plain = torch.tensor(2.5)
    read = Objective(model, Balance(0.0, 0.0, 0.0, 1, 1), tokenizer.bos,
                     tokenizer.fim_begin)
    both = with_answers(read, lambda step: (plain, {"tokens": step}),
                        [(recall, {3, 8})])
    for step in (2, 4, 9):
        assert both(step) == (plain, {"tokens": step})
    assert "recall_loss" in both(8)[1]
    loss, noted = both(3)
    wanted = token_losses(model, *recall(3)).mean().item()
    assert noted == {"tokens": 3, "recall_loss": pytest.approx(wanted)}
    assert loss.item() == pytest.approx(2.5 + wanted)
    loss.backward()
    assert model.lm_head.weight.grad.abs().sum() > 0
    nothing = with_answers(read, lambda step: (None, {}), [(recall, range(9))])
    assert nothing(3) == (None, {})
