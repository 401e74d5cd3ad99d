"""The exercises of the lessons, one module a lesson; importing this registers all."""

from minicoder.show.exercises import (  # noqa: F401
    ablation,
    cluster,
    corpus,
    evaluation,
    feedback,
    fim,
    grpo,
    inference,
    mla,
    model,
    moe,
    pretrain,
    sft,
    tokenizer,
    tour,
    yarn,
)
