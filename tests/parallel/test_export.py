"""What a team exports is what one process saves, to the byte, and anybody opens it."""

import os
import shutil
import signal
from functools import partial
from pathlib import Path

import pytest
import torch
from dealt import CONFIG, FOUR, TWO, cut, held, numbers, team_in, whole
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import AutoModelForCausalLM

from minicoder.errors import UserError
from minicoder.model import weights
from minicoder.model.checkpoint import released
from minicoder.model.transformer import MiniCoder
from minicoder.parallel.export import export
from minicoder.parallel.layout import ALONE, Layout
from minicoder.tokenizer import Tokenizer

LIMIT = 100_000     # bytes of a file
LARGEST = max(tensor.nbytes for _, tensor in released(MiniCoder.outline(CONFIG)))


class Largest(TorchDispatchMode):
    """The largest tensor of weights that is made; views and mapped files are none."""

    size = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if func is not torch.ops.aten.from_file.default and not func.is_view:
            for one in out if isinstance(out, tuple | list) else [out]:
                if isinstance(one, torch.Tensor) and one.device.type == "cpu" and (
                        one.is_floating_point()):
                    self.size = max(self.size, one.nbytes)
        return out


def there_and_back(folder: Path, layouts: dict[str, Layout], tokenizer: Tokenizer
                   ) -> dict[str, tuple[int, bool]]:
    """Export by each layout; the largest tensor made, and whether the next one imports
    what was exported."""
    found, names = {}, list(layouts)
    for name, after in zip(names, [*names[1:], names[0]], strict=True):
        team, next_team = team_in(layouts[name]), team_in(layouts[after])
        model = held(team, "exported")
        with Largest() as largest:
            export(folder / name, model, team, tokenizer, LIMIT)
        other = MiniCoder.from_pretrained(folder / name,
                                          parallelize=partial(cut, team=next_team))
        found[name] = largest.size, all(
            torch.equal(whole(p.data), numbers(key, p.shape, "exported"))
            for key, p in other.named_parameters())
    return found


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.train(["def add(a, b):\n    return a + b\n" * 9], 270)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("size, layouts", [(2, TWO), (4, FOUR)])
def test_a_team_exports_what_one_process_saves(gang, tmp_path, tokenizer, size,
                                               layouts):
    held(ALONE, "exported").save_pretrained(tmp_path / "one", tokenizer,
                                            shard_bytes=LIMIT)
    wanted = contents(tmp_path / "one")
    assert len(wanted) > 8 and "model.safetensors.index.json" in wanted
    ranks = gang(size).run(there_and_back, tmp_path, layouts, tokenizer)
    for name in layouts:
        assert contents(tmp_path / name) == wanted, name
        sizes, right = zip(*(found[name] for found in ranks), strict=True)
        assert all(right), name
        # beside its shard nobody held more than one tensor; stacks are larger
        assert max(sizes) == LARGEST < 49_152, name


def test_transformers_computes_with_what_a_team_exports(gang, tmp_path):
    gang(2).run(exported, tmp_path, "exported")
    tokens = torch.arange(12)[None]
    other = AutoModelForCausalLM.from_pretrained(tmp_path, local_files_only=True)
    with torch.no_grad():
        torch.testing.assert_close(held(ALONE, "exported")(tokens),
                                   other(tokens).logits, rtol=1e-4, atol=1e-3)


# --- what goes wrong


def exported(folder: Path, salt: str, failing: int | None = None) -> str:
    """Export; writing fails at the process `failing`, in its second file."""
    team, real = team_in(Layout(expert=2)), weights.write_file

    def fail(path, *arguments):
        if "model-00003" in path.name or "model-00004" in path.name:
            path.write_bytes(b"half")
            raise OSError(28, "No space left on device")
        return real(path, *arguments)

    if team.rank == failing:
        weights.write_file = fail
    try:
        export(folder, held(team, salt), team, shard_bytes=LIMIT)
    except (OSError, UserError) as error:
        return str(error)
    finally:
        weights.write_file = real
    return "done"


def test_a_full_disk_at_one_process_leaves_the_old_folder(gang, tmp_path):
    assert gang(2).run(exported, tmp_path, "old") == ["done", "done"]
    old = contents(tmp_path)
    for failing in (0, 1):
        said = gang(2).run(exported, tmp_path, "new", failing)
        assert said[failing] == "[Errno 28] No space left on device"
        assert said[1 - failing] == "Another process failed; its message says why."
        assert contents(tmp_path) == old
    assert gang(2).run(exported, tmp_path, "new") == ["done", "done"]
    new = contents(tmp_path)
    assert new.keys() == old.keys() and new != old


def test_a_tokenizer_with_more_tokens_than_the_model_is_refused(tmp_path):
    tokenizer = Tokenizer.train(["def add(a, b):\n    return a + b\n" * 9], 271)
    with pytest.raises(UserError, match="tokenizer has 271 tokens.*vocab_size is 270"):
        export(tmp_path / "new", held(ALONE, ""), ALONE, tokenizer)
    assert not (tmp_path / "new").exists()


def test_a_kill_leaves_the_old_folder(tmp_path):
    export(tmp_path, held(ALONE, "old"), ALONE, shard_bytes=LIMIT)
    old, model = contents(tmp_path), held(ALONE, "new")
    for name in ("shards-00000.safetensors", "model-00002-of-00005.safetensors",
                 "generation_config.json"):
        if not (child := os.fork()):
            real = Path.open

            def die(path, *arguments, name=name, real=real, **how):
                if path.name == name:
                    os.kill(os.getpid(), signal.SIGKILL)
                return real(path, *arguments, **how)

            Path.open = die
            export(tmp_path, model, ALONE, shard_bytes=LIMIT)
            os._exit(1)
        assert os.waitpid(child, 0)[1] == signal.SIGKILL
        assert (tmp_path / "unfinished").exists()
        shutil.rmtree(tmp_path / "unfinished")
        assert contents(tmp_path) == old
