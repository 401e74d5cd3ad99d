"""The command line: help for all, one sentence for a mistake, 130 when interrupted."""

import dataclasses
import inspect
import io
import json
import os
import re
import signal
import subprocess
import sys
from typing import get_args, get_type_hints

import pytest
from miniatures import LITE, random_model
from safetensors.torch import load_file, save_file
from small import new_coder, save_stage

from minicoder.__main__ import COMMANDS, main
from minicoder.tokenizer import Tokenizer


@pytest.fixture(autouse=True)
def signals():
    """The command line listens to SIGTERM; the tests' own way comes back."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    tokenizer = Tokenizer.train(["def add(a, b):\n    return a + b\n"] * 9, 270)
    return save_stage(tmp_path_factory.mktemp("main") / "coder",
                      new_coder(tokenizer), tokenizer)


@pytest.fixture
def said(capsys):
    """Run a command and return its status and what it wrote to both streams."""
    def run(*words):
        try:
            status = main([str(word) for word in words])
        except SystemExit as error:
            status = error.code
        return status, *capsys.readouterr()
    return run


def copied(folder, where):
    where.mkdir()
    for file in folder.iterdir():
        (where / file.name).write_bytes(file.read_bytes())
    return where


# --- help

def flags(function):
    """The arguments that are flags; of a group of settings, its fields."""
    names = []
    for name, kind in get_type_hints(function, include_extras=True).items():
        bare = get_args(kind)[0] if hasattr(kind, "__metadata__") else kind
        if dataclasses.is_dataclass(bare):
            names += [field.name for field in dataclasses.fields(bare)]
        elif name != "return" and "Positional" not in str(kind):
            given = [m.name for m in getattr(kind, "__metadata__", ())
                     if getattr(m, "name", None)]     # tyro.conf.arg(name=...)
            names.append(given[0] if given else name)
    assert len(names) >= len(inspect.signature(function).parameters) - 2
    return names


@pytest.mark.parametrize("command", COMMANDS)
def test_help_shows_every_option_and_its_default(said, command):
    status, out, _ = said(command, "--help")
    assert status == 0
    words = " ".join(re.sub("[│╭╮╰╯─]", " ", out).split())
    assert COMMANDS[command].__doc__.split("\n")[0].rstrip(".") in words
    options = re.findall(r"--[a-z0-9-]+", words)
    names = flags(inspect.unwrap(COMMANDS[command]))
    assert {"--" + name.replace("_", "-") for name in names} <= set(options)
    explained = words.count("(default: ") + words.count("(required)") + words.count(
        "(optional)")
    assert explained >= len(names)


def test_help_lists_the_commands(said):
    status, out, _ = said("--help")
    assert status == 0 and all(command in out for command in COMMANDS)


# --- mistakes

def one_message(err):
    assert err.startswith("minicoder: ") and "Traceback" not in err
    sentences = re.findall(r"[.!?:](?:\s|$)", err)
    assert 1 <= len(sentences) <= 4, err
    return True


@pytest.mark.parametrize("words, part", [
    (["fly"], "fly"), (["demo", "--stepz", "3"], "--stepz"),
    (["pretrain", "--out", "x"], "--shards"),
    (["demo", "--effort", "much"], "much"), (["pack", "--cut", "word"], "word"),
    (["grpo", "--judge", "me"], "me"), ([], "demo")])
def test_words_that_are_none(said, words, part):
    status, out, err = said(*words)
    assert status == 2 and part in out + err and "Traceback" not in out + err


@pytest.mark.parametrize("words, part", [
    (["demo", "--effort", "0"], r"--effort 0\.0 must lie between 0.001 and 1000"),
    (["demo", "--effort", "nan"], "--effort nan must"),
    (["data", "--folders", "{tmp}/empty"], "empty holds no document: no file of a"),
    (["data", "--folders", "{tmp}/none"], "none is not a folder"),
    (["data", "--folders", "{tmp}/empty", "--requirements", "no-such-package"],
     "no-such-package"),
    (["sft", "--model", "{tmp}/none"], "none is not the folder of a finished stage"),
    (["sft", "--model", "{folder}", "--steps", "0"], "--steps 0 must be 1 or more"),
    (["sft", "--model", "{folder}", "--tasks", "3"], "--tasks 3 must be 16 or more"),
    (["sft", "--model", "{folder}", "--lr", "-1"], "--lr -1.0 must be a number above"),
    (["sft", "--model", "{folder}", "--families", "poems"],
     "no family 'poems'.*lists"),
    (["feedback", "--model", "{folder}", "--samples", "0"], "--samples 0"),
    (["grpo", "--model", "{folder}", "--judge", "model"], "needs --reward-model"),
    (["grpo", "--model", "{folder}", "--group", "0"], "--group 0"),
    (["grpo", "--model", "{folder}", "--prompts", "9", "--tasks", "8"], "--tasks 8"),
    (["evaluate", "{folder}", "--names", "a", "b"], "must be 1 different"),
    (["evaluate", "{folder}", "--names", "a", "--limit", "0"], "--limit 0"),
    (["pack", "--corpus", "{tmp}", "--tokenizer", "{tmp}", "--fim-rate", "2"],
     "--fim-rate 2.0 must lie between 0 and 1"),
    (["pretrain", "--shards", "{tmp}", "--tokenizer", "{folder}"], "pack.json does"),
])
def test_settings_that_do_not_fit(said, tmp_path, folder, words, part):
    (tmp_path / "empty").mkdir()
    words = [word.format(tmp=tmp_path, folder=folder) for word in words]
    status, _, err = said(*words, "--out", tmp_path / "out")
    assert status == 2 and one_message(err) and re.search(part, err), err
    assert {path.name for path in tmp_path.iterdir()} == {"empty"}


def test_a_run_that_is_none(said, tmp_path):
    status, _, err = said("report", "--run-folder", tmp_path / "none")
    assert status == 2 and one_message(err) and "none is not a folder" in err


def without(folder):
    weights = load_file(folder / "model.safetensors")
    del weights["lm_head.weight"]
    save_file(weights, folder / "model.safetensors")


def misshaped(folder):
    weights = load_file(folder / "model.safetensors")
    weights["model.norm.weight"] = weights["model.norm.weight"][:-1].clone()
    save_file(weights, folder / "model.safetensors")


def cut(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-9])


def larger_tokenizer(folder):
    text = "def add(a, b):\n    return a + b\n\nclass Other:\n    value = True\n"
    text += "    # understanding, nevertheless, conversation, encyclopedia\n"
    Tokenizer.train([text] * 9, 280).save(folder)


def smaller_tokenizer(folder):
    Tokenizer.train(["def add(a, b):\n    return a + b\n"] * 9, 265).save(folder)


def no_tokenizer(folder):
    (folder / "tokenizer.json").unlink()


def other_configuration(folder):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"kv_lora_rank": -4}))


@pytest.mark.parametrize("damage, part", [
    (without, "1 tensors differ:\n  lm_head.weight is missing"),
    (misshaped, r"model.norm.weight has shape \(31,\) and should have \(32,\)"),
    (cut, "model.safetensors"), (no_tokenizer, "tokenizer.json does not exist"),
    (larger_tokenizer, "tokenizer.json has 280 tokens, and vocab_size.* is 270"),
    (smaller_tokenizer, "bos_token_id is 265 in config.json, 260 in tokenizer.json"),
    (other_configuration, "kv_lora_rank = -4")])
@pytest.mark.parametrize("command", [
    ["complete", "--prompt", "x", "--model"], ["sft", "--out", "{tmp}/out", "--model"]])
def test_a_checkpoint_that_is_broken(said, tmp_path, folder, command, damage, part):
    broken = copied(folder, tmp_path / "broken")
    damage(broken)
    before = {path: path.read_bytes() for path in broken.iterdir()}
    words = [*(word.format(tmp=tmp_path) for word in command), broken]
    status, out, err = said(*words)
    assert status == 2 and one_message(err) and re.search(part, err), err
    assert str(broken) in err
    assert {path: path.read_bytes() for path in broken.iterdir()} == before
    assert {path.name for path in tmp_path.iterdir()} == {"broken"}


@pytest.mark.parametrize("command", ["complete", "infill", "chat"])
def test_a_checkpoint_that_is_not_there(said, tmp_path, command):
    flag = {"complete": "--prompt", "infill": "--code", "chat": "--question"}[command]
    status, _, err = said(command, flag, "a <FILL> b", "--model", tmp_path / "none")
    assert status == 2 and one_message(err) and "none/tokenizer.json" in err


def test_a_model_without_its_tokenizer(said, tmp_path):
    random_model(LITE).save_pretrained(tmp_path)
    status, _, err = said("complete", "--prompt", "x", "--model", tmp_path)
    assert status == 2 and one_message(err) and "tokenizer.json" in err


def test_files_that_may_not_be_written(said, tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "a.py").write_text("x = 1\n")
    status, _, err = said("data", "--folders", tmp_path, "--out",
                          tmp_path / "file" / "out")
    assert status == 2 and err.startswith("minicoder: ") and str(tmp_path) in err


def test_a_traceback_for_those_who_ask(said, tmp_path):
    command = [sys.executable, "-m", "minicoder", "--debug", "report", "--run-folder",
               str(tmp_path / "none")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode != 0
    assert "Traceback" in done.stderr and "UserError: " in done.stderr
    assert "none is not a folder" in done.stderr


# --- pipes and signals

def test_a_reader_that_goes_away(tmp_path, folder, monkeypatch):
    class Closed(io.StringIO):
        def write(self, text):
            raise BrokenPipeError

        def fileno(self):
            return spare

    spare = os.open(tmp_path / "spare", os.O_CREAT | os.O_WRONLY)
    monkeypatch.setattr(sys, "stdout", Closed())
    assert main(["complete", "--prompt", "x", "--model", str(folder)]) == 141
    os.write(spare, b"to nowhere")
    os.close(spare)
    assert (tmp_path / "spare").read_bytes() == b""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_command_with_130(said, monkeypatch, number):
    def asks(prompt):
        os.kill(os.getpid(), number)
        raise AssertionError("the signal came too late")

    # a shell that starts tests in the background makes them deaf to Ctrl-C
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    monkeypatch.setitem(COMMANDS, "chat", lambda: asks(""))
    status, _, err = said("chat")
    signal.signal(signal.SIGINT, before)
    assert status == 130
    assert err.strip() == "minicoder: interrupted; the same command goes on from here."
