"""How well a base model reads code: compression, infilling, needles, as one stage."""

from __future__ import annotations

from pathlib import Path

from minicoder.data.corpus import read_documents
from minicoder.errors import UserError, at_least
from minicoder.evaluation.compression import (
    bits_per_byte,
    gzip_bits_per_byte,
    xz_bits_per_byte,
)
from minicoder.evaluation.infilling import exact_match, single_line_holes
from minicoder.evaluation.needle import DEPTHS, needle_grid
from minicoder.model.transformer import MiniCoder
from minicoder.stages import stage, write_json
from minicoder.training.loop import pick_device


def held_out_texts(corpus: Path, kind: str, most_bytes: int) -> list[str]:
    """Held-out documents of a kind, in order, up to `most_bytes` together.

    The first is among them whatever its size; a small corpus may have none.
    """
    texts, size = [], 0
    for document in read_documents(corpus, "heldout"):
        if document.kind != kind:
            continue
        size += len(document.text.encode())
        if texts and size > most_bytes:
            break
        texts.append(document.text)
    return texts


def compression(short: MiniCoder, long: MiniCoder, tokenizer: Tokenizer,
                texts: dict[str, list[str]]) -> dict[str, dict]:
    """Bits per byte by kind: both models, in windows of the short one, and others."""
    window = short.config.max_position_embeddings
    ways = {
        "bits_per_byte": lambda t: bits_per_byte(short, tokenizer, t, window),
        "bits_per_byte_extended": lambda t: bits_per_byte(long, tokenizer, t, window),
        "gzip": gzip_bits_per_byte, "xz": xz_bits_per_byte, "files": len}
    return {way: {kind: measure(t) for kind, t in texts.items()}
            for way, measure in ways.items()}


def language(
    out: Path, model: Path, extended: Path, corpus: Path, kilobytes: int = 200,
    holes: int = 400, trials: int = 8, seed: int = 0,
) -> Path:
    """Measure a base model on held-out text, before and after its window was extended.

    Args:
        out: folder for scores.json and needle.json.
        model: folder of the pre-trained checkpoint.
        extended: folder of the checkpoint with the longer window.
        corpus: folder of the corpus, whose held-out part is used.
        kilobytes: held-out code to compress; a third of it of mathematics and text.
        holes: single lines to fill in.
        trials: needles per cell of the grid.
        seed: decides holes and needles.
    """
    at_least(1, kilobytes=kilobytes, holes=holes, trials=trials)
    settings = dict(model=model, extended=extended, corpus=corpus, kilobytes=kilobytes,
                    holes=holes, trials=trials)
    with stage(out, "language", settings, [model, extended, corpus], seed) as run:
        if run.finished:
            return out
        device = pick_device()
        run.device = device.type
        tokenizer, short = MiniCoder.with_tokenizer(model, device)
        _, long = MiniCoder.with_tokenizer(extended, device)
        window = short.config.max_position_embeddings
        texts = {kind: texts for kind, size in (
            ("code", kilobytes * 1000), ("math", kilobytes * 333),
            ("text", kilobytes * 333)) if (texts := held_out_texts(corpus, kind, size))}
        if "code" not in texts:
            raise UserError(f"{corpus} holds no held-out code; a larger corpus does.")
        found = compression(short, long, tokenizer, texts)
        infilling = exact_match(
            short, tokenizer, single_line_holes(texts["code"], holes, seed=seed))
        examples = infilling.pop("examples")
        write_json(run.work / "scores.json",
                   found | {"infilling": infilling, "examples": examples})
        straw, reach = "\n".join(texts["code"]), long.config.max_position_embeddings
        lengths = sorted({window // 2, window, *(
            reach >> shift for shift in range(4) if reach >> shift > window)})
        test = (straw, lengths, DEPTHS, trials, seed)
        write_json(run.work / "needle.json", {
            "lengths": lengths, "depths": list(DEPTHS), "trials": trials,
            "window_before": window, "window_after": reach,
            "before": needle_grid(short, tokenizer, *test),
            "after": needle_grid(long, tokenizer, *test)})
        code = found["bits_per_byte"]["code"]
        run.headline = (f"{code:.2f} bits per byte of held-out code (gzip -9: "
                        f"{found['gzip']['code']:.2f}), "
                        f"{infilling['fim']['value']:.1%} of lines filled in exactly")
    return out
