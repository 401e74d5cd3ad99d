"""torchtitan's model with our parts is transformers' DeepseekV2, both ways, and trains.

    python -m pytest -s tests/scale/test_titan.py -k transformers

prints what benchmarks/results/titan.md holds.
"""

import random
import shutil
import sys
from contextlib import contextmanager
from dataclasses import fields, replace
from importlib.util import find_spec
from types import ModuleType, SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from miniatures import (
    FULL,
    LITE,
    YARN,
    closest_call,
    random_model,
    random_tokens,
    wider,
)
from torch import nn
from torch.distributed.fsdp import FSDPModule
from transformers import AutoModelForCausalLM

from minicoder.config import PRESETS, ModelConfig, RopeScaling, parameter_count
from minicoder.errors import UserError
from minicoder.model.balance import Balance
from minicoder.model.checkpoint import released
from minicoder.model.documents import find_documents
from minicoder.model.moe import Routing
from minicoder.model.transformer import MiniCoder
from minicoder.tokenizer import Tokenizer

pytest.importorskip("torchtitan", reason="the extra `titan`")


@contextmanager
def on_cpu():
    """torchtitan on a machine without accelerator, and the hand-over.

    Kernels in Triton, which nothing here calls, need not be there.
    """
    kernels = "torchtitan.distributed.minimal_async_ep.kernels"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch._utils, "_get_available_device_type", lambda: "cpu")
        if not find_spec("triton") and kernels not in sys.modules:
            sys.modules[kernels] = type("", (ModuleType,), {
                "__getattr__": lambda self, name: None})(kernels)
        from minicoder.scale import titan

        yield titan


with on_cpu() as titan:
    from torchtitan.components import metrics
    from torchtitan.config import ConfigManager, TrainingConfig
    from torchtitan.models.common import ScaledDotProductAttention

SOURCE = "def double(x): return 2 * x ; def half(number): return number / 2"
SHAPES = {
    "greedy": replace(LITE, rope_scaling=YARN),
    "groups": replace(FULL, rope_scaling=YARN),
    "gain": replace(FULL, rope_scaling=replace(YARN, mscale=1.3)),
    "no dense layer": replace(LITE, first_k_dense_replace=0)}
OURS_ALONE = {      # what transformers does not know, or not as released
    "dense": replace(LITE, n_routed_experts=None, n_shared_experts=None),
    "normed": replace(FULL, norm_topk_prob=True),
    "unshared": replace(LITE, n_shared_experts=None),
    "linear": replace(LITE, rope_scaling=RopeScaling(4, type="linear", mscale=0,
                                                     mscale_all_dim=0))}


def described(config: ModelConfig, balance: Balance | None = None):
    """Our description of the model, with attention for CPUs."""
    model = titan.spec(config, balance).model
    for layer in model.layers:
        layer.attention.inner_attention = ScaledDotProductAttention.Config()
    return model


def filled(description, ours: MiniCoder) -> tuple[nn.Module, object]:
    """torchtitan's model with our weights, and torchtitan's adapter."""
    adapter = titan.v3.DeepSeekV3StateDictAdapter(description, None)
    model = description.build()
    model.load_state_dict(adapter.from_hf(dict(released(ours))))
    return model.eval(), adapter


def plain(kind, config):
    """A configuration of torchtitan's own kind with the same values."""
    return kind.Config(**{
        field.name: getattr(config, field.name) for field in fields(kind.Config)})


def stock(description, groups: bool = False, eps: bool = False, mscale: bool = False,
          experts: bool = False):
    """The same with parts that are torchtitan's own again."""
    for layer in description.layers:
        if eps:
            layer.attention_norm.eps = layer.ffn_norm.eps = 1e-5
            layer.attention.kv_norm.eps = layer.attention.q_norm.eps = 1e-5
        if mscale:      # of its 16B: 0.70
            layer.attention.mscale = 0.7
        if groups and layer.moe:
            layer.moe.router = plain(titan.moe.TokenChoiceTopKRouter, layer.moe.router)
        if experts and layer.moe:
            inner = layer.moe.routed_experts
            inner.inner_experts = plain(titan.moe.GroupedExperts, inner.inner_experts)
    if eps:
        description.norm.eps = 1e-5
    return description


@torch.no_grad()
def agreement(one: nn.Module, other: nn.Module, config: ModelConfig, ours: MiniCoder
              ) -> tuple[float, float]:
    """Share of equal next tokens, and the largest difference over the largest logit."""
    for seed in range(20):
        tokens, seen = random_tokens(config, 8, 120, seed), list[Routing]()
        ours(tokens, seen)
        if not seen or closest_call(config, seen) > 1e-6:
            break
    found, expected = one(tokens), other(tokens, use_cache=False).logits
    return ((found.argmax(-1) == expected.argmax(-1)).float().mean().item(),
            ((found - expected).abs().max() / expected.abs().max()).item())


@pytest.mark.parametrize("size", ["small", "wide"])
@pytest.mark.parametrize("name", SHAPES)
def test_logits_equal_transformers(tmp_path, name, size):
    config = wider(SHAPES[name]) if size == "wide" else SHAPES[name]
    ours = random_model(config, torch.float32)
    ours.save_pretrained(tmp_path)
    other = AutoModelForCausalLM.from_pretrained(tmp_path, local_files_only=True).eval()
    model, _ = filled(described(config), ours)
    same, error = agreement(model, other, config, ours)
    print(f"\n{name} {size}: argmax {same:.1%}, largest difference {error:.1e}")
    assert same == 1 and error < 1e-5


@pytest.mark.parametrize("name", OURS_ALONE)
def test_logits_equal_ours(name):
    ours = random_model(OURS_ALONE[name], torch.float32)
    model, _ = filled(described(ours.config), ours)
    tokens = random_tokens(ours.config, 2, 60)
    torch.testing.assert_close(model(tokens), ours(tokens), rtol=1e-4, atol=2e-5)


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("g++"), reason="FlexAttention is compiled")
def test_documents_of_a_row_do_not_see_each_other():
    """torchtitan's own attention, which training on GPUs takes."""
    config = replace(FULL, qk_nope_head_dim=24, v_head_dim=16, rope_scaling=YARN)
    ours, bos = random_model(config, torch.float32), 7
    description = titan.spec(config, None).model
    model, _ = filled(description, ours)
    tokens = random_tokens(config, 2, 128).masked_fill_(
        random_tokens(config, 2, 128) == bos, bos + 1)
    tokens[:, 0] = tokens[0, 50] = tokens[1, 30] = tokens[1, 90] = bos
    places = torch.arange(128).expand(2, -1)
    places = places - places.where(tokens == bos, 0).cummax(1).values
    with torch.no_grad():
        found = model(tokens, places, model.get_attention_masks(places))
        expected = ours.lm_head(ours.model.packed(tokens, find_documents(tokens, bos)))
    assert (found - expected).abs().max() < 1e-5 * expected.abs().max()


STOCK = {"group score": {"groups": True}, "epsilon 1e-5": {"eps": True},
         "mscale 0.70": {"mscale": True},
         "these three": {"groups": True, "eps": True, "mscale": True},
         "bfloat16 experts": {"experts": True}}


@pytest.mark.parametrize("part", STOCK)
@pytest.mark.parametrize("shape", ["greedy", "groups"])
def test_torchtitans_own_parts_are_not_transformers(tmp_path, shape, part):
    config = wider(SHAPES[shape])
    ours = random_model(config, torch.float32)
    ours.save_pretrained(tmp_path)
    other = AutoModelForCausalLM.from_pretrained(tmp_path, local_files_only=True).eval()
    model, _ = filled(stock(described(config), **STOCK[part]), ours)
    same, error = agreement(model, other, config, ours)
    print(f"\n{shape}, its {part}: argmax {same:.1%}, difference {error:.1e}")
    if part == "group score" and shape == "greedy":
        assert same == 1
    else:
        assert error > 1e-5


@pytest.mark.parametrize("config, balance", [
    (SHAPES["greedy"], Balance(0.3, 0.0, 0.0, 1, 1)),
    (SHAPES["groups"], Balance(0.3, 0.2, 0.1, 4, 2)),
    (SHAPES["groups"], None)])
def test_balance_losses_pull_as_ours_do(config, balance):
    """The same values, and the gradients of a whole step in two parts."""
    ours = random_model(config, torch.float32)
    model, adapter = filled(described(config, balance), ours)
    tokens, routed = random_tokens(config, 4, 50), []
    for router in (m for m in model.modules() if isinstance(m, titan.Router)):
        router.rows = 4
        router.register_forward_hook(lambda _, x, out: routed.append(
            Routing(*(out[i].flatten(0, 1) for i in (2, 1, 0)))))

    def language(logits, part):
        return F.cross_entropy(logits[:, :-1].flatten(0, 1), part[:, 1:].flatten())

    seen: list[Routing] = []
    loss = language(ours.train()(tokens, seen), tokens)
    values = [balance.loss(r, 4) for r in seen] if balance else []
    (loss + sum(values)).backward()
    model.train()
    for part in tokens.chunk(2):
        (language(model(part), part) / 2).backward()
    found = adapter.to_hf({name: w.grad for name, w in model.named_parameters()})
    like = MiniCoder(config)
    like.load_state_dict({name: w.grad for name, w in ours.named_parameters()})
    for name, gradient in released(like):
        torch.testing.assert_close(found[name], gradient, rtol=1e-3, atol=1e-5,
                                   msg=lambda m, name=name: f"{name}: {m}")
    for layer, value in enumerate(values):  # of two halves, the mean
        halves = [balance.loss(routed[layer + part * len(values)], 2)
                  for part in (0, 1)]
        torch.testing.assert_close(sum(halves) / 2, value)


class Memory:
    """What torchtitan asks of a device's memory; a CPU has no such counters."""

    device_name = "CPU"

    def get_peak_stats(self):
        return metrics.DeviceMemStats(0, 0, 0, 0, 0, 0)

    def reset_peak_stats(self):
        pass


BARRIER, DIVIDE = dist.barrier, FSDPModule.set_gradient_divide_factor


def divide_sums(module, factor):
    """gloo knows no scaled sum."""
    module.set_force_sum_reduction_for_comms(True)
    DIVIDE(module, factor)


def train(folder: str, out: str, rate: float, steps: int, flags: list[str]
          ) -> list[float]:
    """The losses of a training by torchtitan's trainer, as its command begins it."""
    config = ConfigManager().parse_args([
        "--module", "minicoder.scale.titan", "--config", folder, "--dump-folder", out,
        "--dataloader.dataset-path", folder, "--training.steps", str(steps),
        "--training.seq-len", "64", "--training.local-batch-size", "2",
        "--training.global-batch-size", "4", "--training.mixed-precision-param",
        "float32", "--training.disable-cuda-graphs", "--metrics.log-freq", "1",
        "--optimizer.param-groups.0.optimizer-kwargs.lr", str(rate),
        "--lr-scheduler.warmup-steps", "0", "--lr-scheduler.decay-ratio", "0",
        "--parallelism.spmd-backend", "partial_dtensor", "--checkpoint.enable",
        "--checkpoint.initial-load-in-hf", "--checkpoint.last-save-in-hf",
        "--debug.no-enable-structured-logging", "--compile.no-enable", *flags])
    for layer in config.model_spec.model.layers:
        layer.attention.inner_attention = ScaledDotProductAttention.Config()
    losses: list[float] = []
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (("RANK", dist.get_rank()), ("LOCAL_RANK", dist.get_rank()),
                            ("WORLD_SIZE", dist.get_world_size())):
            patch.setenv(name, str(value))
        patch.setattr(dist, "barrier", lambda **_: BARRIER())   # gloo: no device_ids
        patch.setattr(FSDPModule, "set_gradient_divide_factor", divide_sums)
        patch.setattr(metrics, "build_device_memory_monitor", Memory)
        trainer = config.build()
        patch.setattr(trainer.metrics_processor, "log",
                      lambda step, loss, *_, **__: losses.append(loss))
        trainer.train()
        trainer.close()
    return losses


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A checkpoint with tokenizer, and beside it a corpus of documents of one row."""
    folder, draw = tmp_path_factory.mktemp("model"), random.Random(0)
    tokenizer = Tokenizer.train([SOURCE], 270)
    torch.manual_seed(0)
    MiniCoder(replace(FULL, vocab_size=tokenizer.vocab_size, rope_scaling=YARN,
                      initializer_range=0.1)).save_pretrained(folder, tokenizer)
    texts = []
    while len(texts) < 40:
        words = draw.choices(SOURCE.split(), k=30)
        text = " ".join(words)[:draw.randrange(70, 140)]
        if len(tokenizer.encode(text)) == 63:   # 64 inputs and targets, with BOS, EOS
            texts.append(text)
    pq.write_table(pa.table({"text": ["never read", *texts],
                             "split": ["heldout", *["train"] * 40]}),
                   folder / "documents.parquet")
    return folder


@pytest.fixture
def alone():
    """A group of one process."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.slow
def test_one_and_two_processes_train_alike(alone, gang, folder, tmp_path):
    """Two share weights by FSDP2 and deal out experts; one reads steps in two parts."""
    losses = train(str(folder), str(tmp_path / "one"), 3e-3, 8, [])
    both = gang(2).run(train, str(folder), str(tmp_path / "two"), 3e-3, 8,
                       ["--parallelism.expert-parallel-degree", "2"])
    print("\nlosses:", *(f"{loss:.3f}" for loss in losses))
    assert len(losses) == 8 and losses[-1] < losses[0] - 0.5
    for shared in both:
        assert shared == pytest.approx(losses, rel=1e-4)


def test_weights_come_back_bit_by_bit(gang, folder, tmp_path):
    """The released layout, through two processes that learn nothing, and back."""
    gang(2).run(train, str(folder), str(tmp_path), 0.0, 1,
                ["--parallelism.expert-parallel-degree", "2"])
    back = tmp_path / "checkpoint" / "step-1"
    shutil.copy(folder / "config.json", back)
    ours, found = (MiniCoder.from_pretrained(one) for one in (folder, back))
    for (name, weight), (_, other) in zip(released(ours), released(found), strict=True):
        assert torch.equal(weight, other), name
    other, problems = AutoModelForCausalLM.from_pretrained(
        back, local_files_only=True, output_loading_info=True)
    assert not any(problems.values())
    tokens = random_tokens(ours.config, 1, 20)
    torch.testing.assert_close(other(tokens).logits, ours(tokens), rtol=0, atol=1e-4)


def test_presets_are_what_torchtitan_counts():
    for name, config in PRESETS.items():
        model = getattr(titan, name)().model_spec.model
        with torch.device("meta"):
            built = model.build()
        assert sum(w.numel() for w in built.parameters()) == parameter_count(config)


def test_bad_input(monkeypatch):
    with pytest.raises(UserError, match="no preset 'lite'; choose one of .* lite_16b"):
        ConfigManager().parse_args(["--module", "minicoder.scale.titan", "--config",
                                    "lite"])
    monkeypatch.setitem(sys.modules, "torchtitan.models.common", None)
    monkeypatch.delitem(sys.modules, "minicoder.scale.titan")
    with pytest.raises(UserError, match="pip install 'minicoder.titan.'"):
        import minicoder.scale.titan  # noqa: F401


def test_routers_learn_the_sequences_of_a_step(monkeypatch):
    model = described(SHAPES["groups"], Balance(0.1, 0.0, 0.0, 4, 2)).build()
    router = model.layers["1"].moe.router
    monkeypatch.setattr(titan.v3, "parallelize_deepseekv3", lambda model, **_: model)
    dims = SimpleNamespace(tp_enabled=False, cp_enabled=False, dp_replicate=2,
                           dp_shard=8)
    for size, rows in ((-1, 16 * 3), (512, 512)):
        titan.parallelize(model, parallel_dims=dims, training=TrainingConfig(
            local_batch_size=3, global_batch_size=size))
        assert router.rows == rows
    dims.tp_enabled = True
    with pytest.raises(UserError, match="tensor and context parallelism must be 1"):
        titan.parallelize(model, parallel_dims=dims, training=TrainingConfig())
    router.balance = model.layers["2"].moe.router.balance = None
    assert titan.parallelize(model, parallel_dims=dims, training=TrainingConfig())
