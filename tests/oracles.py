"""The slow and obvious versions: one number after the other, straight from the paper.

They share no arithmetic with the library beyond torch's matrix products; weights come
out of the library's own modules, so that a test compares two ways through one model.
"""

import cmath
import math

import torch
from torch import Tensor
from torch.nn import functional as F

from minicoder.config import ModelConfig
from minicoder.model.mla import MLA
from minicoder.model.moe import MLP, MoE, Router


def yarn_theta(config: ModelConfig) -> list[float]:
    """Radians per position for each pair (arXiv 2309.00071, by rotations)."""
    width, s = config.qk_rope_head_dim, config.rope_scaling
    theta = [config.rope_theta ** (-2 * m / width) for m in range(width // 2)]
    if s is None:
        return theta

    def pair(rotations: float) -> float:
        ratio = s.original_max_position_embeddings / (2 * math.pi * rotations)
        return width * math.log(ratio) / (2 * math.log(config.rope_theta))

    low = max(math.floor(pair(s.beta_fast)), 0)
    high = min(math.ceil(pair(s.beta_slow)), width - 1)
    blended = []
    for m, t in enumerate(theta):
        ramp = 0.0 if m < low else 1.0 if m > high else (m - low) / (high - low)
        blended.append(t / s.factor * ramp + t * (1 - ramp))
    return blended


def yarn_gain(factor: float, mscale: float) -> float:
    """g(s, m) = 0.1 m ln s + 1."""
    return 0.1 * mscale * math.log(factor) + 1


def attention_scale(config: ModelConfig) -> float:
    """What q.k is multiplied by before the softmax."""
    scale = 1 / math.sqrt(config.qk_nope_head_dim + config.qk_rope_head_dim)
    if s := config.rope_scaling:
        scale *= yarn_gain(s.factor, s.mscale_all_dim) ** 2
    return scale


def turn(vector: Tensor, position: int, config: ModelConfig) -> Tensor:
    """RoPE of one vector: numbers 2m and 2m+1 are one complex number."""
    gain = 1.0
    if s := config.rope_scaling:
        gain = yarn_gain(s.factor, s.mscale) / yarn_gain(s.factor, s.mscale_all_dim)
    numbers = []
    for m, theta in enumerate(yarn_theta(config)):
        z = complex(vector[2 * m], vector[2 * m + 1])
        z *= gain * cmath.exp(1j * position * theta)
        numbers += [z.real, z.imag]
    return torch.tensor(numbers, dtype=vector.dtype)


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """x / sqrt(mean(x^2) + eps) * weight, for one vector."""
    return x / math.sqrt(sum(v * v for v in x.tolist()) / len(x) + eps) * weight


def mla(attention: MLA, x: Tensor) -> Tensor:
    """Causal MLA (DeepSeek-V2 eq. 37-47) of x (B, T, D), head by head."""
    return torch.stack([_mla_of_one(attention, row) for row in x])


def _mla_of_one(attention: MLA, x: Tensor) -> Tensor:
    c = attention.config
    n, r, v = c.qk_nope_head_dim, c.qk_rope_head_dim, c.v_head_dim
    queries, latents, rotary_keys = [], [], []
    for t, h in enumerate(x):
        if c.q_lora_rank is None:
            q = attention.q_proj.weight @ h
        else:
            q = attention.q_b_proj.weight @ rms_norm(
                attention.q_a_proj.weight @ h, attention.q_a_layernorm.weight,
                c.rms_norm_eps)
        queries.append(q)
        down = attention.kv_a_proj_with_mqa.weight @ h
        latents.append(rms_norm(down[:c.kv_lora_rank], attention.kv_a_layernorm.weight,
                                c.rms_norm_eps))
        rotary_keys.append(turn(down[c.kv_lora_rank:], t, c))
    outputs = []
    for t in range(len(x)):
        heads = []
        for i in range(c.num_attention_heads):
            query = queries[t][i * (n + r):(i + 1) * (n + r)]
            query = torch.cat((query[:n], turn(query[n:], t, c)))
            up = attention.kv_b_proj.weight[i * (n + v):(i + 1) * (n + v)]
            logits = [attention_scale(c) * float(
                query @ torch.cat((up[:n] @ latents[s], rotary_keys[s])))
                for s in range(t + 1)]
            weights = [math.exp(value - max(logits)) for value in logits]
            heads.append(sum(w / sum(weights) * (up[n:] @ latents[s])
                             for s, w in enumerate(weights)))
        outputs.append(attention.o_proj.weight @ torch.cat(heads))
    return torch.stack(outputs)


def choose_experts(scores: list[float], config: ModelConfig) -> dict[int, float]:
    """The experts of one token and the weight of each, from its softmax scores."""
    groups, allowed = config.n_group, set(range(len(scores)))
    if config.topk_method == "group_limited_greedy":
        size = len(scores) // groups
        best = sorted(range(groups), reverse=True,
                      key=lambda g: max(scores[g * size:(g + 1) * size]))
        allowed = {e for g in best[:config.topk_group]
                   for e in range(g * size, (g + 1) * size)}
    chosen = sorted(allowed, key=lambda e: -scores[e])[:config.num_experts_per_tok]
    if config.norm_topk_prob and len(chosen) > 1:
        return {e: scores[e] / sum(scores[i] for i in chosen) for e in chosen}
    return {e: scores[e] * config.routed_scaling_factor for e in chosen}


def swiglu(x: Tensor, gate: Tensor, up: Tensor, down: Tensor) -> Tensor:
    """down(silu(gate x) * up x) of one vector."""
    return down @ (F.silu(gate @ x) * (up @ x))


def moe(layer: MoE, x: Tensor) -> Tensor:
    """DeepSeek-V2 eq. 20 of x (M, D): every token, every expert; differentiable."""
    c, outputs = layer.gate.config, []
    for token in x:
        scores = (layer.gate.weight @ token).softmax(0)
        chosen = choose_experts(scores.tolist(), c)
        shared: MLP | None = layer.shared_experts
        out = torch.zeros_like(token)
        if shared is not None:
            out = swiglu(token, shared.gate_proj.weight, shared.up_proj.weight,
                         shared.down_proj.weight)
        total = sum(scores[e] for e in chosen)
        for e in range(c.n_routed_experts):
            if e not in chosen:
                continue
            both, width = layer.experts.gate_up_proj[e], c.moe_intermediate_size
            weight = (scores[e] / total if c.norm_topk_prob and len(chosen) > 1
                      else scores[e] * c.routed_scaling_factor)
            out = out + weight * swiglu(token, both[:width], both[width:],
                                        layer.experts.down_proj[e])
        outputs.append(out)
    return torch.stack(outputs)


def balance_losses(router: Router, x: Tensor, devices: int, limit: int
                   ) -> tuple[float, float, float]:
    """Expert, device and communication loss (DeepSeek-V2 eq. 23-31) without alphas.

    Averaged over the sequences of x (B, T, D). f_i = E / (K T) * tokens that chose i;
    P_i = mean score of i; f'_d = mean f of the device; P'_d = P''_d = its summed P;
    f''_d = D / (M T) * tokens sent to device d.
    """
    c, sums = router.config, [0.0, 0.0, 0.0]
    experts, kept = c.n_routed_experts, c.num_experts_per_tok
    each = experts // devices
    for sequence in x:
        length = len(sequence)
        count, score, visits = [0] * experts, [0.0] * experts, [0] * devices
        for token in sequence:
            scores = (router.weight @ token).softmax(0).tolist()
            chosen = choose_experts(scores, c)
            for e in chosen:
                count[e] += 1
            for d in {e // each for e in chosen}:
                visits[d] += 1
            for e in range(experts):
                score[e] += scores[e] / length
        f = [experts / (kept * length) * n for n in count]
        sums[0] += sum(a * b for a, b in zip(f, score, strict=True))
        for d in range(devices):
            own = range(d * each, (d + 1) * each)
            p = sum(score[e] for e in own)
            sums[1] += sum(f[e] for e in own) / each * p
            sums[2] += devices / (limit * length) * visits[d] * p
    return tuple(value / len(x) for value in sums)


def kept_visits(scores: list[list[float]], experts: list[list[int]], devices: int,
                capacity: float, spared: list[bool]) -> list[list[bool]]:
    """Which visits stay when each device keeps its best ones (DeepSeek-V2 §2.2.4)."""
    each = len(scores[0]) // devices
    room = int(capacity * len(experts) * len(experts[0]) / devices)
    kept = [[False] * len(row) for row in experts]
    for d in range(devices):
        visits = [(not spared[t], -scores[t][e], t, k) for t, row in enumerate(experts)
                  for k, e in enumerate(row) if e // each == d]
        for place, (ordinary, _, t, k) in enumerate(sorted(visits)):
            kept[t][k] = place < room or not ordinary
    return kept


@torch.no_grad()
def greedy(model: torch.nn.Module, prompt: list[int], new: int) -> list[int]:
    """Continue by `new` tokens, running the whole text again for every one of them."""
    text = list(prompt)
    for _ in range(new):
        text.append(int(model(torch.tensor([text]))[0, -1].argmax()))
    return text[len(prompt):]


def grpo_loss(new: list, old: list, reference: list | None, advantages: list,
              mask: list, clip: float, beta: float) -> Tensor:
    """DeepSeekMath eq. 3 with eq. 4 inside, negated: one token after the other.

    The lists hold one list of log-probabilities per answer; a token counts where its
    `mask` is true.
    """
    answers = []
    for i, a in enumerate(advantages):
        tokens = []
        for t, counts in enumerate(mask[i]):
            if not counts:
                continue
            ratio = torch.exp(new[i][t] - old[i][t])
            if a >= 0:
                gain = a * (ratio if ratio < 1 + clip else ratio.new_tensor(1 + clip))
            else:
                gain = a * (ratio if ratio > 1 - clip else ratio.new_tensor(1 - clip))
            if reference is not None:
                x = torch.exp(reference[i][t] - new[i][t])
                gain = gain - beta * (x - torch.log(x) - 1)
            tokens.append(gain)
        answers.append(sum(tokens) / len(tokens))
    return -sum(answers) / len(answers)


@torch.no_grad()
def answer_logprobs(model: torch.nn.Module, prompt: list[int], answer: list[int]
                    ) -> list[float]:
    """ln pi of each answer token, one unpadded forward pass for every one of them."""
    found = []
    for place, token in enumerate(answer):
        logits = model(torch.tensor([[*prompt, *answer[:place]]]))[0, -1].tolist()
        top = max(logits)
        whole = top + math.log(sum(math.exp(value - top) for value in logits))
        found.append(logits[token] - whole)
    return found


def auc(scores: list[float], right: list[bool]) -> float:
    """How often a right program scores above a wrong one; a tie is half a win."""
    wins = [1.0 if good > bad else 0.5 if good == bad else 0.0
            for good, is_right in zip(scores, right, strict=True) if is_right
            for bad, other in zip(scores, right, strict=True) if not other]
    return sum(wins) / len(wins)
