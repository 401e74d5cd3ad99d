"""Checkpoints: the released names, both ways, whole or not at all."""

import json
import resource
import shutil
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from hypothesis import given, settings
from hypothesis import strategies as st
from miniatures import FULL, LITE, SHAPES, YARN, random_model, random_tokens
from safetensors.torch import load_file, save_file
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import Shard
from torch.testing._internal.distributed.fake_pg import FakeStore
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from minicoder.config import PRESETS, ModelConfig
from minicoder.errors import UserError
from minicoder.model import checkpoint as library
from minicoder.model.checkpoint import overlap, released
from minicoder.model.transformer import MiniCoder
from minicoder.stages import peak_memory, reset_peak_memory, stage
from minicoder.tokenizer import Tokenizer

PLAIN = {"config.json", "generation_config.json", "model.safetensors"}


def same(first: MiniCoder, second: MiniCoder) -> bool:
    one, other = first.state_dict(), second.state_dict()
    return one.keys() == other.keys() and all(
        torch.equal(tensor, other[name]) for name, tensor in one.items())


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


# --- the layout

# DeepSeek-Coder-V2: shapes in Lite and in the 236B, none where there is no such tensor
OUTER = {"model.embed_tokens": ((102400, 2048), (102400, 5120)),
         "lm_head": ((102400, 2048), (102400, 5120)), "model.norm": ((2048,), (5120,))}
LAYER = {
    "input_layernorm": ((2048,), (5120,)),
    "post_attention_layernorm": ((2048,), (5120,)),
    "self_attn.q_proj": ((3072, 2048), None),
    "self_attn.q_a_proj": (None, (1536, 5120)),
    "self_attn.q_a_layernorm": (None, (1536,)),
    "self_attn.q_b_proj": (None, (24576, 1536)),
    "self_attn.kv_a_proj_with_mqa": ((576, 2048), (576, 5120)),
    "self_attn.kv_a_layernorm": ((512,), (512,)),
    "self_attn.kv_b_proj": ((4096, 512), (32768, 512)),
    "self_attn.o_proj": ((2048, 2048), (5120, 16384))}
DENSE = {"mlp.gate_proj": ((10944, 2048), (12288, 5120)),
         "mlp.up_proj": ((10944, 2048), (12288, 5120)),
         "mlp.down_proj": ((2048, 10944), (5120, 12288))}
MOE = {"mlp.gate": ((64, 2048), (160, 5120)),
       "mlp.shared_experts.gate_proj": ((2816, 2048), (3072, 5120)),
       "mlp.shared_experts.up_proj": ((2816, 2048), (3072, 5120)),
       "mlp.shared_experts.down_proj": ((2048, 2816), (5120, 3072))}
EXPERT = {"gate_proj": ((1408, 2048), (1536, 5120)),
          "up_proj": ((1408, 2048), (1536, 5120)),
          "down_proj": ((2048, 1408), (5120, 1536))}


def released_shapes(which: int, layers: int, experts: int) -> dict[str, tuple]:
    """Every tensor of a released checkpoint, written out from the tables above."""
    shapes = dict(OUTER)
    for i in range(layers):
        block = LAYER | (MOE if i else DENSE)
        shapes |= {f"model.layers.{i}.{name}": s for name, s in block.items()}
        if i:
            shapes |= {f"model.layers.{i}.mlp.experts.{e}.{name}": s
                       for e in range(experts) for name, s in EXPERT.items()}
    return {f"{name}.weight": both[which] for name, both in shapes.items()
            if both[which]}


@pytest.mark.parametrize("name, which, layers, experts, count", [
    ("lite_16b", 0, 27, 64, 5_291), ("full_236b", 1, 60, 160, 29_102)])
def test_names_and_shapes_are_the_released_ones(name, which, layers, experts, count):
    found = {name: tuple(tensor.shape)
             for name, tensor in released(MiniCoder.outline(PRESETS[name]))}
    assert found == released_shapes(which, layers, experts)
    assert len(found) == count


def test_experts_are_unstacked_gate_before_up(tmp_path):
    model = random_model(LITE)
    model.save_pretrained(tmp_path)
    stored = load_file(tmp_path / "model.safetensors")
    experts = model.model.layers[2].mlp.experts
    for e in range(LITE.n_routed_experts):
        name = f"model.layers.2.mlp.experts.{e}"
        assert torch.equal(experts.gate_up_proj[e], torch.cat((
            stored[f"{name}.gate_proj.weight"], stored[f"{name}.up_proj.weight"])))
        assert torch.equal(experts.down_proj[e], stored[f"{name}.down_proj.weight"])


# --- both ways


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16],
                         ids=str)
@pytest.mark.parametrize("shape", SHAPES)
def test_round_trip(tmp_path, shape, dtype):
    model = random_model(replace(SHAPES[shape], rope_scaling=YARN), dtype)
    model.save_pretrained(tmp_path)
    found = MiniCoder.from_pretrained(tmp_path)
    assert found.config == model.config
    assert same(found, model)
    assert all(weight.requires_grad for weight in found.parameters())
    tokens = random_tokens(LITE, 1, 5)
    assert torch.equal(found(tokens), model(tokens))
    assert names(tmp_path) == PLAIN


def test_shards(tmp_path):
    model = random_model(FULL)
    model.save_pretrained(tmp_path, shard_bytes=100_000)
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
    files = sorted(set(index["weight_map"].values()))
    assert len(files) > 3
    assert files[0] == f"model-00001-of-{len(files):05}.safetensors"
    assert index["metadata"]["total_size"] == sum(
        weight.nbytes for weight in model.parameters())
    assert all((tmp_path / file).stat().st_size < 120_000 for file in files)
    assert same(MiniCoder.from_pretrained(tmp_path), model)
    other = AutoModelForCausalLM.from_pretrained(tmp_path, local_files_only=True)
    assert sum(p.numel() for p in other.parameters()) == sum(
        p.numel() for p in model.parameters())

    model.save_pretrained(tmp_path)  # one file replaces them all, the index too
    assert names(tmp_path) == PLAIN
    assert same(MiniCoder.from_pretrained(tmp_path), model)


def test_transformers_finds_every_tensor_and_no_other(tmp_path):
    random_model(LITE, torch.float32).save_pretrained(tmp_path)
    other, report = AutoModelForCausalLM.from_pretrained(
        tmp_path, local_files_only=True, output_loading_info=True)
    assert other.dtype == torch.float32
    assert not any(report[key] for key in (
        "missing_keys", "unexpected_keys", "mismatched_keys"))


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.train(["def add(a, b):\n    return a + b\n" * 9], 270)


def test_tokenizer_and_sampling_go_with_the_model(tmp_path, tokenizer):
    model = random_model(replace(LITE, vocab_size=tokenizer.vocab_size))
    model.save_pretrained(tmp_path, tokenizer, chat_template="{{ bos_token }}")
    assert Tokenizer.load(tmp_path).tokens == tokenizer.tokens
    config = json.loads((tmp_path / "config.json").read_text())
    assert (config["bos_token_id"], config["eos_token_id"]) == (
        tokenizer.bos, tokenizer.eos)
    sampling = GenerationConfig.from_pretrained(tmp_path)
    assert (sampling.eos_token_id, sampling.temperature, sampling.top_p) == (
        tokenizer.eos, 0.3, 0.95)
    other = AutoTokenizer.from_pretrained(tmp_path, local_files_only=True)
    assert other.chat_template == "{{ bos_token }}"
    assert other.encode("def add", add_special_tokens=False) == tokenizer.encode(
        "def add")
    assert names(tmp_path) == PLAIN | {"tokenizer.json", "tokenizer_config.json"}


def test_a_tokenizer_with_more_tokens_than_the_model_is_refused(tmp_path, tokenizer):
    with pytest.raises(UserError, match="tokenizer has 270 tokens.*vocab_size is 101"):
        random_model(LITE).save_pretrained(tmp_path / "new", tokenizer)
    assert not (tmp_path / "new").exists()


def test_other_users_may_read_a_checkpoint(tmp_path):
    random_model(LITE).save_pretrained(tmp_path)
    (tmp_path / "made").touch()
    assert {path.stat().st_mode for path in tmp_path.iterdir()} == {
        (tmp_path / "made").stat().st_mode}


def test_conversion_while_loading(tmp_path):
    model = random_model(LITE, torch.float32)
    model.save_pretrained(tmp_path)
    found = MiniCoder.from_pretrained(tmp_path, dtype=torch.bfloat16)
    assert same(found, model.to(torch.bfloat16))


def rewrite(folder: Path, change) -> None:
    """Let `change` edit the stored tensors."""
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors")


def test_mixed_types_keep_the_widest(tmp_path):
    model = random_model(LITE, torch.bfloat16)
    model.save_pretrained(tmp_path)
    rewrite(tmp_path, lambda t: t.update(
        {name: value.float() for name, value in t.items() if ".mlp.gate." in name}))
    found = MiniCoder.from_pretrained(tmp_path)
    assert found.lm_head.weight.dtype == torch.float32
    assert same(found, model.float())


def test_rotary_tables_in_a_checkpoint_are_passed_over(tmp_path):
    model = random_model(LITE)
    model.save_pretrained(tmp_path)
    rewrite(tmp_path, lambda t: t.update(
        {"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(4)}))
    assert same(MiniCoder.from_pretrained(tmp_path), model)


def test_absent_mscale_means_what_it_means_to_transformers(tmp_path):
    """Without mscale_all_dim the softmax scale is left alone, and cos and sin grow."""
    config = replace(LITE, rope_scaling=YARN)
    random_model(config, torch.float32).save_pretrained(tmp_path)
    values = json.loads((tmp_path / "config.json").read_text())
    del values["rope_scaling"]["mscale"], values["rope_scaling"]["mscale_all_dim"]
    (tmp_path / "config.json").write_text(json.dumps(values))
    model = MiniCoder.from_pretrained(tmp_path)
    tokens = random_tokens(LITE, 1, 12)
    other = AutoModelForCausalLM.from_pretrained(tmp_path, local_files_only=True)
    with torch.no_grad():
        expected = other(tokens).logits
        torch.testing.assert_close(model(tokens), expected, rtol=0,
                                   atol=1e-5 * expected.abs().max().item())
    assert model.config.rope_scaling.mscale_all_dim == 0


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(),
                    reason="only Linux tells the peak of a part of a run")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_loading_needs_the_model_and_one_tensor(tmp_path, dtype):
    MiniCoder(PRESETS["nano"]).save_pretrained(tmp_path)
    stored = (tmp_path / "model.safetensors").stat().st_size / 2**20
    reset_peak_memory()
    before = peak_memory()
    model = MiniCoder.from_pretrained(tmp_path, dtype=dtype)
    size = sum(weight.nbytes for weight in model.parameters()) / 2**20
    assert peak_memory() - before < size + stored / 4


# --- shards: a fake process group stands for ranks that would run at the same time


@contextmanager
def rank_of(rank: int, world: int):
    """This process as one of `world` ranks; what they would send goes nowhere."""
    dist.init_process_group("fake", rank=rank, world_size=world, store=FakeStore())
    try:
        yield init_device_mesh("cpu", (world,))
    finally:
        dist.destroy_process_group()


def sharded(mesh, experts_by: int):
    """FSDP2 by rows, the experts by dimension `experts_by`."""
    def parallelize(model: torch.nn.Module) -> None:
        def place(parameter: torch.nn.Parameter) -> Shard:
            return Shard(experts_by if parameter.ndim == 3 else 0)

        for layer in model.model.layers:
            fully_shard(layer, mesh=mesh, shard_placement_fn=place)
        fully_shard(model, mesh=mesh, shard_placement_fn=place)
    return parallelize


# one rank of each world: torch keeps meshes of the same size as if they were the same
@pytest.mark.parametrize("rank, world, experts_by", [
    (0, 2, 0), (1, 3, 0), (5, 6, 0), (3, 4, 1), (7, 8, 1)])
def test_each_rank_copies_its_rows_and_no_others(good, rank, world, experts_by,
                                                      monkeypatch):
    whole, read = MiniCoder.from_pretrained(good).state_dict(), []
    real = library.fill
    monkeypatch.setattr(library, "fill", lambda *a: read.append(real(*a)))
    with rank_of(rank, world) as mesh:
        model = MiniCoder.from_pretrained(good, parallelize=sharded(mesh, experts_by))
        held = {name: t.to_local() for name, t in model.state_dict().items()}
        with pytest.raises(UserError, match="The model is sharded"):
            model.save_pretrained(good / "never")
    assert not (good / "never").exists()
    assert held.keys() == whole.keys()
    for name, tensor in whole.items():  # torch.chunk is how FSDP2 deals rows out
        chunks = tensor.chunk(world, dim=experts_by if tensor.ndim == 3 else 0)
        mine = chunks[rank] if rank < len(chunks) else tensor[:0]
        assert torch.equal(held[name], mine), name
    assert read == [sum(t.numel() for t in held.values())]
    assert read[0] < 1.1 / world * sum(t.numel() for t in whole.values())


@settings(deadline=None, max_examples=200)
@given(st.data())
def test_overlaps_join_to_the_whole(data):
    """Blocks copied into shards by `overlap`, and shards joined: nothing is lost."""
    shape = torch.Size(data.draw(st.lists(st.integers(1, 6), min_size=1, max_size=3)))
    whole, dim = torch.arange(shape.numel()).view(shape), len(shape) - 1
    cut = data.draw(st.integers(0, shape[dim]))
    pieces = [whole.narrow(dim, 0, cut), whole.narrow(dim, cut, shape[dim] - cut)]
    starts = [[0] * len(shape), [0] * dim + [cut]]
    found = [torch.full_like(piece, -1) for piece in pieces]
    half = shape[0] // 2
    for block in (slice(0, half), slice(half, shape[0])), tuple(range(shape[0])):
        for part in block:
            for piece, start in zip(found, starts, strict=True):
                if both := overlap(piece.shape, start, (part,), shape):
                    piece[both[0]] = whole[part][both[1]]
        assert torch.equal(torch.cat(found, dim), whole)


# --- broken checkpoints


@pytest.fixture(scope="module")
def good(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("good")
    random_model(LITE).save_pretrained(folder)
    return folder


@pytest.fixture
def folder(good, tmp_path) -> Path:
    return Path(shutil.copytree(good, tmp_path / "copy"))


def test_all_that_is_wrong_is_listed_at_once(folder):
    def change(tensors):
        del tensors["lm_head.weight"]
        tensors["model.layers.1.mlp.gate.bias"] = torch.zeros(8)
        tensors["model.norm.weight"] = torch.ones(31)

    rewrite(folder, change)
    with pytest.raises(UserError) as caught:
        MiniCoder.from_pretrained(folder)
    text = str(caught.value)
    assert f"{folder} does not hold the model of its config.json, 3 tensors" in text
    assert "\n  lm_head.weight is missing" in text
    assert "\n  model.layers.1.mlp.gate.bias is not in such a model" in text
    assert "\n  model.norm.weight has shape (31,) and should have (32,)" in text


def test_a_long_list_is_cut(folder):
    rewrite(folder, lambda t: [t.pop(name) for name in list(t) if ".experts." in name])
    with pytest.raises(UserError, match="48 tensors differ") as caught:
        MiniCoder.from_pretrained(folder)
    assert str(caught.value).count("\n") == 4
    assert "... and 45 more of these" in str(caught.value)


def edit(folder: Path, **values) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


@pytest.mark.parametrize("values, message", [
    ({"hidden_size": 64}, r"should have \(101, 64\)"),
    ({"num_hidden_layers": 4}, r"model\.layers\.3\..* is missing"),
    ({"n_routed_experts": 7}, r"experts\.7\..* is not in such a model"),
    ({"q_lora_rank": 8}, r"q_a_proj\.weight is missing"),
    ({"kv_lora_rank": 17}, r"kv_a_layernorm\.weight has shape \(16,\)"),
    ({"num_hidden_layers": 10**9}, "a far larger model"),
    ({"n_routed_experts": 10**9}, "a far larger model"),
    ({"vocab_size": 10**12}, "a far larger model"),
    ({"hidden_size": 2**40}, "a far larger model"),
    ({"qk_nope_head_dim": 10**30}, "a far larger model"),
    ({"hidden_size": -1}, "field hidden_size = -1"),
    ({"model_type": "llama"}, "model_type"),
])
def test_weights_that_do_not_fit_the_configuration(folder, values, message):
    edit(folder, **values)
    with pytest.raises(UserError, match=rf"(?s){folder}.*{message}"):
        MiniCoder.from_pretrained(folder)


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
def test_a_number_that_is_none_is_named(folder, value):
    def change(tensors):
        tensors["model.layers.1.mlp.experts.3.up_proj.weight"][2, 1] = float(value)

    rewrite(folder, change)
    with pytest.raises(UserError, match=r"experts\.3\.up_proj\.weight holds inf"):
        MiniCoder.from_pretrained(folder)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_file_that_is_missing_or_cut_is_named(folder, name):
    whole = (folder / name).read_bytes()
    for size in (0, 7, len(whole) // 2, len(whole) - 3):
        (folder / name).write_bytes(whole[:size])
        with pytest.raises(UserError, match=name):
            MiniCoder.from_pretrained(folder)
    (folder / name).unlink()
    with pytest.raises(UserError, match=name):
        MiniCoder.from_pretrained(folder)


def test_integers_are_no_weights(folder):
    rewrite(folder, lambda t: t.update(
        {"lm_head.weight": torch.zeros(101, 32, dtype=torch.int8)}))
    with pytest.raises(UserError, match=r"lm_head\.weight is of type I8"):
        MiniCoder.from_pretrained(folder)


def test_a_folder_that_is_none(tmp_path):
    with pytest.raises(UserError, match="config.json cannot be read"):
        MiniCoder.from_pretrained(tmp_path / "none")


# --- a full disk


@contextmanager
def files_of_at_most(size: int):
    """Writing past `size` bytes fails, as on a disk that has no room left."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("size", [100, 5_000, 100_000])
def test_a_full_disk_leaves_the_old_checkpoint(folder, size):
    model = random_model(LITE, seed=1)
    with files_of_at_most(size), pytest.raises(Exception, match="(Errno|error) 27"):
        model.save_pretrained(folder)
    assert names(folder) == PLAIN
    assert same(MiniCoder.from_pretrained(folder), random_model(LITE))
    model.save_pretrained(folder)
    assert same(MiniCoder.from_pretrained(folder), model)


def test_a_stage_says_it_in_one_sentence(tmp_path):
    with pytest.raises(UserError, match="The disk is full"):
        with stage(tmp_path / "pretrain", "pretrain", {}) as run:
            with files_of_at_most(100_000):
                random_model(LITE).save_pretrained(run.work)
    assert not (tmp_path / "pretrain").exists()


def test_interrupted_saving_leaves_the_old_checkpoint(folder, monkeypatch):
    def interrupt(path):
        raise KeyboardInterrupt

    monkeypatch.setattr("minicoder.model.checkpoint.sync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        random_model(FULL).save_pretrained(folder)
    monkeypatch.undo()
    assert names(folder) == PLAIN
    assert ModelConfig.load(folder) == LITE
    assert same(MiniCoder.from_pretrained(folder), random_model(LITE))
    (folder / "unfinished").mkdir()  # what a kill leaves behind
    (folder / "unfinished" / "model.safetensors").write_bytes(b"half")
    assert same(MiniCoder.from_pretrained(folder), random_model(LITE))
    random_model(FULL).save_pretrained(folder)
    assert names(folder) == PLAIN
