"""Several answers to each prompt in one pass: the prompt is computed once a group.

Letters: P prompts, G answers per prompt, C tokens of the longest prompt without its
last, A tokens of the longest answer, H heads, QK and V widths, N = P C + P G A.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor

from minicoder.model.attention import attend
from minicoder.model.mla import MLA
from minicoder.model.rope import rope_table
from minicoder.model.transformer import Transformer


def group_attention(
    q: Float[Tensor, "P G H A QK"], keys: Float[Tensor, "P H C QK"],
    values: Float[Tensor, "P H C V"], own_keys: Float[Tensor, "P G H A QK"],
    own_values: Float[Tensor, "P G H A V"], known: Bool[Tensor, "P C"], scale: float,
) -> Float[Tensor, "P G H A V"]:
    """Answers that see their prompt, where it is `known`, and themselves up to now.

    A group's queries are rows of one matrix for the prompt's keys, which are not
    copied for every answer.
    """
    group, length = q.shape[1], q.shape[3]
    whole = rearrange(q * scale, "p g h a d -> p h (g a) d")
    before = (whole @ keys.mT).masked_fill(~known[:, None, None], -torch.inf)
    before = rearrange(before, "p h (g a) c -> p g h a c", g=group)
    later = torch.ones(length, length, dtype=torch.bool, device=q.device).triu(1)
    own = (q * scale @ own_keys.mT).masked_fill(later, -torch.inf)
    share = torch.cat((before, own), -1).softmax(-1)
    before, own = share.split([keys.shape[2], length], -1)
    seen = rearrange(before, "p g h a c -> p h (g a) c") @ values
    return rearrange(seen, "p h (g a) v -> p g h a v", g=group) + own @ own_values


def group_hidden(model: Transformer, prompts: Sequence[Sequence[int]],
                 answers: Sequence[Sequence[int]]) -> Float[Tensor, "P G A D"]:
    """Hidden states that each token of `answers` is predicted from.

    `answers` has the same number for every prompt, side by side, none of them empty;
    prompts are of two tokens or more.
    Places behind an answer's end hold states of no meaning.
    """
    device = model.norm.weight.device
    group = len(answers) // len(prompts)
    width, length = max(map(len, prompts)) - 1, max(map(len, answers))
    context = torch.zeros(len(prompts), width, dtype=torch.long)
    known = torch.zeros(len(prompts), width, dtype=torch.bool)
    for row, prompt in enumerate(prompts):
        context[row, :len(prompt) - 1] = torch.tensor(prompt[:-1])
        known[row, :len(prompt) - 1] = True
    inputs = torch.zeros(len(answers), length, dtype=torch.long)
    for row, answer in enumerate(answers):  # the prompt's last token predicts the first
        inputs[row, :len(answer)] = torch.tensor([prompts[row // group][-1],
                                                  *answer[:-1]])
    tokens = torch.cat((context.flatten(), inputs.flatten()))[None].to(device)
    starts = known.sum(1).repeat_interleave(group)
    places = torch.cat((torch.arange(width).repeat(len(prompts)),
                        (starts[:, None] + torch.arange(length)).flatten())).to(device)
    table = rope_table(model.config, 0, width + length, model.norm.weight)
    rope, known = tuple(part[places] for part in table), known.to(device)
    first = context.numel()

    def mix(layer: int, attention: MLA, x: Tensor) -> Tensor:
        q, k, v = attention.heads(x, attention.to_cache(x, rope), rope)
        old = [rearrange(part[:, :, :first], "1 h (p c) d -> p h c d", c=width)
               for part in (q, k, v)]
        q, k, v = (rearrange(part[:, :, first:], "1 h (p g a) d -> p g h a d", g=group,
                             a=length) for part in (q, k, v))
        out = rearrange(attend(*old, attention.scale), "p h c v -> 1 (p c) (h v)")
        new = group_attention(q, *old[1:], k, v, known, attention.scale)
        new = rearrange(new, "p g h a v -> 1 (p g a) (h v)")
        return attention.o_proj(torch.cat((out, new), 1))

    hidden = model.run(tokens, mix)[0, first:]
    return rearrange(hidden, "(p g a) d -> p g a d", g=group, a=length)
