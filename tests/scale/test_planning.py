import json

import pytest

from minicoder.__main__ import main
from minicoder.errors import UserError
from minicoder.scale.planning import BYTES, DECIMAL, UNITS, quantity


@pytest.mark.parametrize(("text", "units", "value"), [
    ("80GB", BYTES, 80e9), ("74.5 GiB", BYTES, 74.5 * 2**30), ("128K", UNITS, 131072),
    ("4096", UNITS, 4096), ("6T", DECIMAL, 6e12), ("36m", UNITS, 36 * 2**20)])
def test_units(text, units, value):
    assert quantity("x", text, units) == value


@pytest.mark.parametrize("text", ["", "0", "-3", "GB", "80 XB", "1e9", "8 0GB", "nan"])
def test_what_is_no_quantity(text):
    with pytest.raises(UserError, match="--memory .*above 0"):
        quantity("memory", text, BYTES)


def test_serving_the_236b_on_eight(capsys):
    assert main(["plan", "full_236b", "--purpose", "serve", "--gpus", "8", "--memory",
                 "80GB", "--context", "128K"]) == 0
    out = capsys.readouterr().out
    assert "8.44" in out and "vllm serve" in out and "Not modelled" in out
    assert "DeepSeek-V2 §3.2.3" in out and "--tensor 8" in out


def test_training_is_planned_and_traced(capsys):
    assert main(["plan", "lite_16b", "--gpus", "32", "--batch", "4M",
                 "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert "torchrun --nnodes 4 --nproc-per-node 8 -m minicoder pretrain" in out
    assert "1 of 32 processes" in out and "Not covered" in out


def test_numbers_for_machines(capsys):
    flags = ["--gpus", "2", "--shard", "2", "--pipeline", "1", "--tensor", "1",
             "--expert", "2", "--replicate", "1", "--batch", "64K", "--json"]
    assert main(["plan", "small", *flags]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["layout"]["shard"] == found["layout"]["expert"] == 2
    assert found["over"] < 0 and found["work"]["rows"] == 16


def test_a_plan_that_does_not_fit_is_refused_with_others_that_do(capsys):
    status = main(["plan", "full_236b", "--gpus", "256", "--memory", "80GB",
                   "--pipeline", "1", "--recompute", "no"])
    out, err = capsys.readouterr()
    assert status == 2 and "are missing" in out
    assert "does not fit" in err and "more than the 67.06 GiB" in err
    assert err.count("\n  fits: --gpus 256 ") == 3


@pytest.mark.parametrize("flags", [
    "full_236b --gpus 256 --memory 80GB --pipeline 1 --recompute no",
    "lite_16b --gpus 8 --context 66001 --batch 528008 --microbatches 1",
    "full_236b --purpose serve --gpus 4 --context 128K --batch 256K"])
def test_what_is_proposed_fits_when_it_is_asked_for(capsys, flags):
    given = ["plan", *flags.split()]
    assert main(given) == 2
    err = capsys.readouterr().err
    lines = err.split("\n  fits: ")[1:]
    assert lines and ("GPU-hours" in err) == ("serve" not in flags)
    for line in (lines[0], lines[-1]):
        assert main([*given, *line.split(" (")[0].split()]) == 0, line
        assert f"({gib_of(capsys.readouterr().out)} GiB" in line


def gib_of(out):
    """The total of the fullest process in an account."""
    return max((line.split()[-1] for line in out.splitlines()
                if line.startswith("stage ")), key=float)


def test_a_trace_is_json_too(capsys):
    assert main(["plan", "small", "--gpus", "2", "--batch", "64K", "--json",
                 "--dry-run"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["traced"]["numbers"] * 4 == found["stages"][0]["parameters"]


@pytest.mark.parametrize(("flags", "message"), [
    (["--purpose", "serve", "--gpus", "8", "--dry-run"], "--dry-run traces training"),
    (["--gpus", "0"], "--gpus 0 must be 1 or more"),
    (["--device", "tpu"], "--device tpu"),
    (["--context", "long"], "--context long: write a number"),
    (["--batch", "5000"], "--batch 5000: choose a multiple of the 4096 tokens"),
    (["--utilisation", "2"], "--utilisation 2.0: allowed is 0 to 1"),
    (["--tensor", "3"], "--tensor 3 "), (["--pipeline", "7"], "--pipeline 7 "),
    (["--gpus", "64", "--shard", "64", "--expert", "3"], "--expert 3")])
def test_mistakes_get_a_sentence(capsys, flags, message):
    assert main(["plan", "full_236b", *flags]) == 2
    assert message in capsys.readouterr().err


def test_an_unknown_preset(capsys):
    assert main(["plan", "full_235b"]) == 2
    assert "full_236b" in capsys.readouterr().err
