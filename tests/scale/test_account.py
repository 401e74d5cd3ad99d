import functools
from dataclasses import replace

import pytest
import tyro

from minicoder.config import preset
from minicoder.parallel.layout import Layout
from minicoder.scale.account import account, command, flop, gib, memory_table
from minicoder.scale.plan import Work, plan
from minicoder.training.pretrain import pretrain

WHOLE = preset("full_236b")
BUDGET = plan(WHOLE, Layout(16, 1, 32, 1, 8, "1F1B"),
              Work(rounds=288, recompute=True))


def test_everything_is_said():
    text = account("full_236b", WHOLE, BUDGET)
    for words in ("235,741,434,880 parameters", "9216 rows of 4,096", "bubble 4.95%",
                  "expert all-to-all", "goes to 3.00 processes as it is",
                  "6.00 processes if each visit were sent", "GPU-hours", "Assumed:",
                  "Not modelled:", "DeepSeek-V3 table 1", "arXiv 2104.04473",
                  "155.3 G needed"):
        assert words in text, words
    assert max(map(len, memory_table(BUDGET))) <= 110


@pytest.mark.parametrize(("layout", "work", "nodes"), [
    (BUDGET.layout, BUDGET.work, 64),
    (Layout(4, 2, 4, 2, 8, "ZBVZeroBubble"), Work(rounds=16, tokens=1e12), 8),
    (Layout(1, 1, 1, 1, 1), Work(precision="float32"), 1)], ids=str)
def test_pretrain_reads_the_command_as_that_plan(layout, work, nodes):
    budget = plan(WHOLE, layout, work)
    words = command("full_236b", budget).split()
    assert words[:3] == ["torchrun", "--nnodes", str(nodes)]
    each, start = int(words[4]), words.index("pretrain")
    assert nodes * each == layout.world

    @functools.wraps(pretrain)      # its flags, and what they say instead of a run
    def read(**given):
        return given

    asked = tyro.cli(read, args=words[start + 1:])
    machine = asked["machine"]
    assert asked["layout"].of(layout.world) == layout
    assert (asked["model"], asked["batch"]) == ("full_236b", work.rows)
    assert (machine.accumulate, machine.precision, machine.recompute) == (
        work.rounds, work.precision, work.recompute)
    assert abs(asked["steps"] * budget.step_tokens - work.tokens) < budget.step_tokens


def test_what_does_not_fit_is_not_started():
    assert "\n  torchrun " in account("full_236b", WHOLE, BUDGET)
    heavy = plan(WHOLE, BUDGET.layout, replace(BUDGET.work, recompute=False))
    assert heavy.over > 0 and "torchrun" not in account("full_236b", WHOLE, heavy)


def test_readers_that_serve_are_vllms_data_parallel_processes():
    served = plan(WHOLE, Layout(1, 1, 8, 2, 16), Work("serve", 131072, 8))
    words = command("full_236b", served).split()
    assert words[words.index("--data-parallel-size") + 1] == "8"
    assert words[words.index("--tensor-parallel-size") + 1] == "2"
    assert "--enable-expert-parallel" in words
    lone = plan(preset("lite_16b"), Layout().of(1), Work("serve", 4096, 1))
    assert "--enable-expert-parallel" not in command("lite_16b", lone)


def test_numbers_for_people():
    assert gib(2**30) == "1.00 GiB" and gib(3 * 2**40) == "3.00 TiB"
    assert flop(155.296e9) == "155.3 G" and flop(1.2345e6) == "1.23 M"
