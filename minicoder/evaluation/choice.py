"""Multiple choice by likelihood: which option does the model find least surprising?

The other way is to let it write and read the letter. Both are called accuracy, and they
differ, for they ask different things (DeepSeek-V2 ranks options by perplexity, and
Coder-V2's 79.2 on MMLU comes from letters that were read):

- a letter asks for the knowledge and for the format as well: a base model may know the
  option and never write "A", and an instructed one may explain and write none;
- likelihood reads the options alone, and the frequent wording wins beside the right
  one. Summed over tokens, every further token costs: short options win. The mean over
  tokens, which is the perplexity, repays that, sometimes too much: a long option whose
  end follows from its beginning is cheap per token.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch

from minicoder.errors import UserError
from minicoder.model.transformer import MiniCoder
from minicoder.tokenizer import Tokenizer

By = Literal["probability", "perplexity"]


@torch.no_grad()
def option_log_probs(model: MiniCoder, tokenizer: Tokenizer, prompt: str,
                     options: Sequence[str]) -> list[list[float]]:
    """Of each option, the log-probability in nats of each of its tokens.

    Options are tokenized on their own, so that all follow the same prompt. Raises
    `UserError` when prompt and option exceed the window.
    """
    start = [tokenizer.bos, *tokenizer.encode(prompt)]
    device, window = model.lm_head.weight.device, model.config.max_position_embeddings
    found = []
    for option in options:
        ids = tokenizer.encode(option)
        if not ids or len(start) + len(ids) > window:
            raise UserError(f"An option has {len(ids)} tokens behind {len(start)}; it "
                            f"must have one and fit the window of {window}.")
        tokens = torch.tensor([start + ids], device=device)
        scores = model(tokens[:, :-1])[0, -len(ids):, :model.known].float()
        found.append(scores.log_softmax(-1).gather(
            1, tokens[0, -len(ids):, None]).squeeze(1).tolist())
    return found


def likeliest(log_probs: Sequence[Sequence[float]], by: By) -> int:
    """The option of the highest probability, or of the lowest perplexity."""
    worth = [sum(one) / (len(one) if by == "perplexity" else 1) for one in log_probs]
    return max(range(len(worth)), key=worth.__getitem__)
