"""What is asked of base and chat models, and that right texts are graded right."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from minicoder.alignment.chat import CHAT_TEMPLATE
from minicoder.errors import UserError
from minicoder.evaluation.infilling import Span
from minicoder.evaluation.suite import (
    ask,
    is_chat,
    load_items,
    load_needles,
    question_of,
    signature,
)
from minicoder.execution.sandbox import Sandbox
from minicoder.tasks.families import sample_items
from minicoder.tasks.prediction import read_cruxeval
from minicoder.tokenizer import Tokenizer

pytestmark = pytest.mark.filterwarnings("ignore:Generated programs run")
DATA = Path(__file__).parents[3] / "shared" / "data"


def shared(name):
    if not (DATA / name).exists():
        pytest.skip(f"shared/data/{name} does not lie beside the repository")
    return DATA / name


@pytest.fixture(scope="module")
def words():
    return Tokenizer.train(["the quick brown fox"], 261)


@pytest.fixture(scope="module")
def sandbox():
    with Sandbox(workers=1, allow_weak=True) as found:
        yield found


def test_a_sentence_is_asked_as_a_comment_or_as_a_turn(words, sandbox):
    (item,) = sample_items("lists", 1, "heldout", 0)
    base, chat = ask(item, words, False), ask(item, words, True)
    text = words.decode(base.tokens[1:])
    assert text == f"# {item.prompt}\n{signature(item)}" and text.endswith("(a):\n")
    assert words.decode(chat.tokens[1:]) == f"User: {item.question}\n\nAssistant:"
    body = item.canonical_solution.removeprefix(signature(item))
    answer = base.answer(body + "\n\nprint(solve([1]))\nmore")
    assert answer.rstrip() == item.canonical_solution.rstrip()
    assert base.grade(answer, sandbox).verdict == "pass"
    assert chat.answer("  x") == " x" and base.answer("  x").endswith("\n  x")
    assert chat.grade(chat.answer(item.reference), sandbox).verdict == "pass"
    assert base.grade(base.answer("    return 'no'\n"), sandbox).verdict != "pass"


def test_an_unfinished_function_is_gone_on_with(words, sandbox):
    (item,) = load_items("humaneval", 1, 0)
    base, chat = ask(item, words, False), ask(item, words, True)
    assert words.decode(base.tokens[1:]) == item.prompt and base.completes
    text = base.answer(item.canonical_solution + "\ndef other():\n    pass")
    assert text == item.canonical_solution.removesuffix("\n") + "\n" or text in (
        item.canonical_solution)
    assert base.grade(text, sandbox).verdict == "pass"
    assert base.grade("    pass\n", sandbox).verdict in ("fail", "error")
    assert chat.grade(chat.answer(item.reference), sandbox).verdict == "pass"


@pytest.mark.parametrize("name", ["evalplus/HumanEvalPlus-Mini.jsonl.gz",
                                  "humanevalpack/python.jsonl.gz",
                                  "mbpp/mbpp.jsonl.gz"])
def test_other_files_are_asked_and_graded_in_both_formats(name, words, sandbox):
    (item,) = load_items(f"file:{shared(name)}", 1, 5)
    base, chat = ask(item, words, False), ask(item, words, True)
    assert chat.grade(item.reference, sandbox).verdict == "pass"
    inner = getattr(item, "task", item)
    solution = getattr(inner, "canonical_solution", None) or inner.solution
    if base.before:
        first = base.before.splitlines()[-1]
        solution = solution.replace("\r", "").split(first)[-1]
    assert base.grade(base.answer(solution), sandbox).verdict == "pass"
    assert base.grade(base.answer("    return None\n"), sandbox).verdict != "pass"


@pytest.mark.parametrize("kind", ["choice", "words", "prediction"])
def test_a_chain_of_thought_is_asked_for_or_not(kind, words):
    (item,) = sample_items(kind, 1, "heldout", 0)
    assert question_of(item, True) == item.question
    plain = question_of(item, False)
    assert plain != item.question and "step by step" not in plain
    assert "step by step" in item.question
    text = words.decode(ask(item, words, False).tokens[1:])
    assert text == f"Question: {item.question}\nAnswer:"


def test_answers_without_a_chain_of_thought_are_graded(words, sandbox):
    (item,) = sample_items("choice", 1, "heldout", 0)
    one = ask(item, words, False, reasoning=False)
    assert one.grade(one.answer(f" {item.letter}\n\nQuestion: next"), sandbox
                     ).verdict == "pass"
    other = "ABCD".replace(item.letter, "")[0]
    assert one.grade(one.answer(f" {other}"), sandbox).verdict == "fail"
    item = next(i for i in sample_items("prediction", 20, "heldout", 0)
                if i.asks == "output")
    one = ask(item, words, False, reasoning=False)
    assert words.decode(one.tokens[1:]).endswith(f"assert f({item.given}) ==")
    assert one.grade(one.answer(f" {item.output}\nmore"), sandbox).verdict == "pass"
    assert one.grade(one.answer(" 'wrong'"), sandbox).verdict == "fail"


def test_cruxeval_with_and_without_a_chain_of_thought(words, sandbox):
    path = shared("cruxeval/cruxeval.jsonl.gz")
    (item,) = load_items(f"cruxeval-output:{path}", 1, 0)
    direct = ask(item, words, False, reasoning=False)
    assert direct.grade(direct.answer(f" {item.output}"), sandbox).verdict == "pass"
    chat = ask(item, words, True)
    thought = f"First ... [ANSWER]{item.output}[/ANSWER]"
    assert chat.grade(chat.answer(thought), sandbox).verdict == "pass"
    asked = {i.asks for kind in ("input", "output") for i in read_cruxeval(
        path, kind)[:3]}
    assert asked == {"input", "output"}


def test_spans_are_asked_in_the_order_of_fim_training(words, sandbox):
    path = shared("humaneval/HumanEval-SingleLineInfilling.jsonl.gz")
    (item,) = load_items(f"infilling:{path}", 1, 0)
    one = ask(item, words, True)
    assert isinstance(item, Span) and one.tokens[-1] == words.fim_end
    assert one.tokens.index(words.fim_begin) < one.tokens.index(words.fim_hole)
    assert one.answer("    x") == "    x"       # indentation is part of it
    assert one.grade(one.answer(item.reference + "more"), sandbox).verdict == "pass"


def test_needles_fit_the_window_and_have_one_answer(words, sandbox):
    found = load_needles(20, 0, words, 512)
    assert found == load_needles(20, 0, words, 512) != load_needles(20, 1, words, 512)
    assert {item.difficulty for item in found} == {1, 2, 3, 4}
    for item in found:
        one = ask(item, words, True)
        assert len(one.tokens) < 512 >> (4 - item.difficulty) and one.most == 1
        assert item.question.count(f'letter is "{item.reference}"') == 1
        assert one.grade(item.reference + '".', sandbox).verdict == "pass"
        assert one.grade("", sandbox).verdict == "fail"


def test_a_small_family_is_asked_whole():
    items = load_items("contests", None, 0)
    assert 20 < len(items) < 60     # a tenth of 400, less the dull ones
    assert len(load_items("contests", 5, 0)) == 5
    assert {i.task_id for i in load_items("contests", 99, 1)} == {
        i.task_id for i in items}


def test_a_file_is_sampled_and_kept_in_order():
    ids = [int(i.task_id.split("/")[1]) for i in load_items("humaneval", 20, 0)]
    assert ids == sorted(ids) and len(set(ids)) == 20
    assert ids != [int(i.task_id.split("/")[1]) for i in load_items("humaneval", 20, 1)]
    assert len(load_items("humaneval", None, 0)) == 164


@pytest.mark.parametrize("name", ["nothing", "mbpp", "nothing:file", "infilling"])
def test_names_that_mean_nothing(name):
    with pytest.raises(UserError, match="not known: choose a family .*lists"):
        load_items(name, 1, 0)


def test_a_chat_template_is_recognised(tmp_path):
    assert not is_chat(tmp_path)
    config = tmp_path / "tokenizer_config.json"
    config.write_text("{}")
    assert not is_chat(tmp_path)
    config.write_text(json.dumps({"chat_template": CHAT_TEMPLATE}))
    assert is_chat(tmp_path)
    (tmp_path / "chat_template.jinja").write_text(CHAT_TEMPLATE)
    config.unlink()
    assert is_chat(tmp_path)


@pytest.mark.parametrize(("template", "said"), [
    ("{% for m in messages %}[INST]{{ m['content'] }}{% endfor %}", "not DeepSeek's"),
    ("{% if %}", "cannot be used"),
    ("{{ messages.__class__.__mro__ }}", "cannot be used|not DeepSeek's")])
def test_another_template_is_refused(tmp_path, template, said):
    (tmp_path / "chat_template.jinja").write_text(template)
    with pytest.raises(UserError, match=said):
        is_chat(tmp_path)


def test_a_solution_without_a_first_line_begins_nothing():
    (item,) = sample_items("lists", 1, "heldout", 0)
    assert signature(replace(item, canonical_solution="solve = len\n")) == ""
