"""Bytes moved per decoded token against context: the 236B with MLA, and its MHA twin.

    python figures/inference.py

Writes figures/inference-light.svg and figures/inference-dark.svg.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from minicoder.config import PRESETS, ModelConfig, parameter_count
from minicoder.show.style import save_svg

FIGURES = Path(__file__).parent
BATCH, CONTEXT = 64, 32_768


def weights(c: ModelConfig, batch: int) -> float:
    """GB of weights moved per decoded token, in bf16.

    The expected share of touched experts, when each token draws its experts evenly and
    by itself; the embedding table, of which only rows are read, is left out.
    """
    expert = 3 * c.hidden_size * c.moe_intermediate_size
    layers = c.num_hidden_layers - c.first_k_dense_replace
    routed = layers * (c.n_routed_experts or 0) * expert
    once = parameter_count(c) - routed - c.vocab_size * c.hidden_size
    missed = (1 - c.num_experts_per_tok / (c.n_routed_experts or 1)) ** batch
    return 2 * (once + routed * (1 - missed)) / batch / 1e9


def cached(c: ModelConfig) -> dict[str, int]:
    """Numbers in the cache per token, all layers (DeepSeek-V2, table 1)."""
    return {"MHA twin": c.num_hidden_layers * 2 * c.num_attention_heads * c.v_head_dim,
            "MLA": c.num_hidden_layers * c.cache_width}


def moved(c: ModelConfig, kind: str, context: int) -> float:
    """GB per decoded token."""
    return weights(c, BATCH) + 2 * cached(c)[kind] * context / 1e9


def draw(finding: str, colours: dict[str, str]) -> Figure:
    """Two lines, the floor under them, and the values at 32K."""
    c = PRESETS["full_236b"]
    figure, axes = plt.subplots(figsize=(8.6, 3.6))
    contexts = [2 ** (e / 4) for e in range(36, 69)]
    for kind, ink in (("MHA twin", "before"), ("MLA", "after")):
        here = moved(c, kind, CONTEXT)
        axes.loglog(contexts, [moved(c, kind, s) for s in contexts], color=colours[ink])
        axes.plot(CONTEXT, here, "o", color=colours[ink], markersize=7)
        axes.annotate(f"{here:.0f} GB", (CONTEXT, here), xytext=(-6, 7), ha="right",
                      textcoords="offset points", color=colours[ink])
        axes.annotate(kind, (contexts[-1], moved(c, kind, contexts[-1])),
                      xytext=(6, 0), textcoords="offset points", va="center",
                      color=colours[ink], fontweight="bold", annotation_clip=False)
    floor = weights(c, BATCH)
    axes.axhline(floor, color=colours["muted"], linestyle=":", linewidth=1.2)
    axes.annotate(f"weights alone, {floor:.1f} GB: shared by {BATCH} texts",
                  (512, floor), xytext=(5, -5), textcoords="offset points", va="top",
                  color=colours["muted"])
    axes.set(xlabel="context in tokens", ylabel="GB per decoded token", ylim=(3, 900),
             xlim=(512, 131_072))
    axes.set_xticks([512, 2048, 8192, CONTEXT, 131_072], "512 2K 8K 32K 128K".split())
    axes.set_yticks(ticks := [10, 20, 50, 100, 200, 500], map(str, ticks))
    axes.minorticks_off()
    axes.set_title(f"236B in bf16, {BATCH} texts decoded at once, 6 of 160 experts "
                   "drawn evenly", fontsize=9.5, fontweight=400,
                   color=colours["muted"])
    figure.suptitle(finding, x=0.01, ha="left", fontsize=12, fontweight="bold")
    return figure


def main() -> None:
    """Draw both modes."""
    mha, mla = (moved(PRESETS["full_236b"], k, CONTEXT) for k in ("MHA twin", "MLA"))
    numbers = cached(PRESETS["full_236b"])
    finding = (f"At 32K tokens of context a decoded token moves {mha:.0f} GB with MHA, "
               f"and {mla:.0f} GB with MLA")
    alt = (f"{finding}. Two rising lines over the context from 512 to 131,072 tokens, "
           "both axes logarithmic. The MHA twin of the 236B, which caches "
           f"{numbers['MHA twin']:,} numbers a token, leaves the dotted line of the "
           f"weights at once; MLA, which caches {numbers['MLA']:,}, stays near it up "
           "to about 16 thousand tokens.")
    for path in save_svg(partial(draw, finding), FIGURES / "inference", alt):
        print(path.name)


if __name__ == "__main__":
    main()
