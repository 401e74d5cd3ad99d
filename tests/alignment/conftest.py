"""A small coder that knows a few programs by heart, and folders made from it."""

import pytest
from small import answers_of, memorise, new_coder, save_stage

from minicoder.alignment.feedback import feedback
from minicoder.execution.sandbox import Sandbox
from minicoder.execution.verdict import Limits
from minicoder.tasks.families import sample_tasks
from minicoder.tokenizer import Tokenizer


@pytest.fixture(scope="session")
def tasks():
    """The first ones that `feedback` draws with seed 0."""
    return sample_tasks("lists", 6, "train", 1)


@pytest.fixture(scope="session")
def tokenizer(tasks):
    return Tokenizer.train(
        [t.prompt + "\n" + t.canonical_solution for t in tasks] * 2, 380)


@pytest.fixture(scope="session")
def base(tokenizer, tmp_path_factory):
    """Folder of an untrained model."""
    return save_stage(tmp_path_factory.mktemp("base") / "pretrain",
                      new_coder(tokenizer), tokenizer)


@pytest.fixture(scope="session")
def coder(tokenizer, tasks):
    """A model that has memorised the first three tasks and not the others."""
    return memorise(new_coder(tokenizer), answers_of(tasks[:3], tokenizer)).eval()


@pytest.fixture(scope="session")
def taught(coder, tokenizer, tmp_path_factory):
    """Its folder."""
    return save_stage(tmp_path_factory.mktemp("taught") / "sft", coder, tokenizer)


@pytest.fixture(scope="session")
def judged(taught, tmp_path_factory):
    """Folder of its programs, run and judged."""
    out = tmp_path_factory.mktemp("judged") / "feedback"
    return feedback(out, taught, prompts=6, samples=3, temperature=0.8, batch=4)


@pytest.fixture(scope="session")
def sandbox():
    with Sandbox(workers=1, limits=Limits(cpu_s=1)) as pool:
        yield pool
