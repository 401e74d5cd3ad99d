"""Small models that have learnt something, and the folders that stages take."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from miniatures import LITE

from minicoder.alignment.chat import answer_tokens, prompt_tokens
from minicoder.config import ModelConfig
from minicoder.model.transformer import MiniCoder
from minicoder.stages import stage
from minicoder.tasks.task import Task
from minicoder.tokenizer import Tokenizer
from minicoder.training.batches import Pair, answer_batch
from minicoder.training.loop import token_losses


def coder_config(vocab_size: int, window: int = 256) -> ModelConfig:
    """The smallest model that can learn a few texts by heart in a second."""
    return replace(LITE, vocab_size=vocab_size, num_hidden_layers=2,
                   num_attention_heads=2, n_routed_experts=4, num_experts_per_tok=2,
                   n_shared_experts=1, max_position_embeddings=window)


def new_coder(tokenizer: Tokenizer, window: int = 256, seed: int = 0) -> MiniCoder:
    """An untrained one for a vocabulary."""
    torch.manual_seed(seed)
    return MiniCoder(coder_config(tokenizer.vocab_size, window)).eval()


def memorise(model: MiniCoder, pairs: Sequence[Pair], steps: int = 60) -> MiniCoder:
    """Teach a model to continue each first list of tokens by the second."""
    tokens, targets = answer_batch(pairs, torch.device("cpu"))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0)
    for _ in range(steps):
        optimizer.zero_grad()
        token_losses(model, tokens, targets).mean().backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    return model


def answers_of(tasks: Sequence[Task], tokenizer: Tokenizer) -> list[Pair]:
    """Each task's prompt and right program, as fine-tuning sees them."""
    return [(prompt_tokens(t.prompt, tokenizer),
             answer_tokens(t.canonical_solution.strip(), tokenizer)) for t in tasks]


def save_stage(folder: Path, model: MiniCoder, tokenizer: Tokenizer) -> Path:
    """A checkpoint folder that a stage takes as its input."""
    with stage(folder, "pretrain", {}) as run:
        model.save_pretrained(run.work, tokenizer)
    return folder
