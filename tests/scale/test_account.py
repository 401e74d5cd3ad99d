from minicoder.config import preset
from minicoder.parallel.layout import Layout
from minicoder.scale.account import account, command, gib, memory_table
from minicoder.scale.plan import Work, plan

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


def test_the_command_starts_that_plan():
    words = command("full_236b", BUDGET).split()
    for flag, value in {
            "--nnodes": "64", "--batch": "9216", "--accumulate": "288",
            "--pipeline": "16", "--shard": "32", "--expert": "8", "--steps": "158946",
            "--pipeline-schedule": "1F1B"}.items():
        assert words[words.index(flag) + 1] == value
    assert "--recompute" in words


def test_bytes_for_people():
    assert gib(2**30) == "1.00 GiB" and gib(3 * 2**40) == "3.00 TiB"
