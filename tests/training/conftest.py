"""Small folders that the training stages read."""

import random

import pytest

from minicoder.data.corpus import write_documents
from minicoder.data.packing import pack
from minicoder.data.sources import Document
from minicoder.stages import stage
from minicoder.tokenizer import Tokenizer


def source(draw: random.Random, kind: str) -> str:
    word = {"code": "def", "math": "sum", "text": "the"}[kind]
    return "".join(f"{word} n{draw.randrange(10 ** 6)}(x{line}): return value\n"
                   for line in range(draw.randrange(1, 20)))


@pytest.fixture(scope="session")
def rows(tmp_path_factory):
    """A folder with `tokenizer`, `pack` (rows of 64 tokens) and `pack_long` (128)."""
    root, draw = tmp_path_factory.mktemp("rows"), random.Random(0)
    documents = [Document(source(draw, kind), f"{kind}{i}", "Python", kind, "o", "MIT")
                 for kind, count in (("code", 60), ("math", 6), ("text", 40))
                 for i in range(count)]
    with stage(root / "corpus", "data", {}) as run:
        write_documents(documents, run.work)
    with stage(root / "tokenizer", "tokenizer", {}) as run:
        Tokenizer.train([d.text for d in documents], 270).save(run.work)
    for name, length in (("pack", 64), ("pack_long", 128)):
        pack(root / name, root / "corpus", root / "tokenizer", length, 6_000)
    return root
