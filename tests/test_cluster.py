"""The launch files: read by shellcheck and our parser, run as far as a shell can.

SLURM, kubectl, vLLM and SGLang are not here. `srun`, `scontrol` and `sbatch` are stood
in for by short programs that start tasks as SLURM would; torchrun is the real one.
"""

import functools
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import pytest
import tyro
import yaml
from miniatures import FULL, LITE, YARN, random_model

from minicoder.config import preset
from minicoder.scale.plan import Work, plan
from minicoder.training.options import Routers
from minicoder.training.pretrain import pretrain

ROOT = Path(__file__).parents[1]
CLUSTER = ROOT / "cluster"
SETTINGS = sorted(CLUSTER.glob("*.env"))
SCRIPTS = sorted(CLUSTER.glob("*.sh"))


def values(settings, *names):
    """What bash reads from a settings file, arrays as lists."""
    script = '. "$1"; shift; for n; do declare -n v=$n; printf "%s\\0" "${v[@]}"; '\
             'printf "\\1\\0"; done'
    out = subprocess.run(["bash", "-eu", "-c", script, "bash", settings, *names],
                         capture_output=True, check=True, text=True).stdout
    found = [part.split("\0")[:-1] for part in out.split("\1\0")[:-1]]
    return dict(zip(names, found, strict=True))


def copied(folder, **changes):
    """The launch files with a settings file that somebody edited."""
    shutil.copytree(CLUSTER, folder)
    settings = folder / "lite_16b.env"
    text = settings.read_text()
    for name, value in changes.items():
        text, count = re.subn(rf"^{name}=(\([^)]*\)|\S*)", lambda _, n=name, v=value:
                              f"{n}={v}", text, flags=re.MULTILINE)
        assert count == 1, name
    settings.write_text(text)
    return settings


@pytest.fixture
def program(tmp_path, monkeypatch):
    """Put a program of a name in front of all others, and return its folder."""
    path = tmp_path / "bin"
    path.mkdir()
    monkeypatch.setenv("PATH", str(path), prepend=os.pathsep)

    def make(name, text):
        (path / name).write_text(textwrap.dedent(text))
        (path / name).chmod(0o755)
        return path / name
    return make


# --- the files themselves

def test_shellcheck_has_nothing_to_say():
    beside = Path(sys.executable).with_name("shellcheck")
    tool = str(beside) if beside.exists() else shutil.which("shellcheck")
    if tool is None:
        pytest.skip("shellcheck is not installed")
    done = subprocess.run([tool, "-x", *SCRIPTS, *SETTINGS],
                          cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("settings", SETTINGS, ids=lambda path: path.stem)
def test_settings_start_a_run_that_minicoder_understands(settings):
    found = values(settings, "NODES", "GPUS_PER_NODE", "PROGRAM", "NAME", "OUT", "DATA")
    assert re.fullmatch("[a-z][a-z0-9-]*", found["NAME"][0])
    module, *words = found["PROGRAM"][1:]
    assert (found["PROGRAM"][0], module, words[0]) == ("-m", "minicoder", "pretrain")

    @functools.wraps(pretrain)      # its flags, and what they say instead of a run
    def read(**given):
        return given

    asked = tyro.cli(read, args=words[1:])
    world = int(found["NODES"][0]) * int(found["GPUS_PER_NODE"][0])
    layout, machine = asked["layout"].of(world), asked["machine"]
    work = Work(rows=asked["batch"], rounds=machine.accumulate, recompute=True)
    budget = plan(preset(asked["model"]), layout, work, memory=80e9)
    assert budget.over < 0, f"{budget.over / 1e9} GB are missing"
    assert str(asked["out"]) == found["OUT"][0]
    assert (machine.precision, machine.recompute) == ("bfloat16", True)
    if settings.stem == "full_236b":    # DeepSeek-V2 §3.1.3
        assert (layout.pipeline, layout.expert, layout.tensor) == (16, 8, 1)
        assert asked["balance"] == 0.003      # §3.1.2 and §2.2.4
        assert asked["routers"] == Routers(0.05, 0.02, 8, 3, 1.0, 0.1)


def test_both_settings_files_set_the_same_names():
    named = [re.findall(r"^(\w+)=", path.read_text(), re.MULTILINE)
             for path in SETTINGS]
    assert named[0] == named[1] and len(named) == 2
    checkpoint = {"full_236b": 2635, "lite_16b": 176}   # 12 bytes a parameter
    for path in SETTINGS:   # two are kept while a third is written
        assert int(values(path, "FREE_GIB")["FREE_GIB"][0]) > 3 * checkpoint[path.stem]


# --- is a node fit?

PYTHON = """\
    #!/bin/sh
    if [ "$2" = -c ]; then echo 8; else printf '%s\\n' "$@"; env | sort; fi
    """


def node(settings, **environment):
    given = dict(NODE="0", HEAD="first", ADDRESS="here", RUN="name") | environment
    return subprocess.run(["bash", settings.parent / "run.sh", settings], text=True,
                          env=os.environ | given, capture_output=True)


@pytest.fixture
def fit(tmp_path, program):
    """A settings file for a node of 8 GPUs that has nothing wrong."""
    program("nvidia-smi", '#!/bin/sh\nprintf "0, 0, Not Active\\n1, [N/A], Not Active"')
    return copied(tmp_path / "cluster", PYTHON=program("pyton", PYTHON),
                  DATA=tmp_path, FREE_GIB=0, NODES=4)


def test_a_fit_node_starts_torchrun(fit, tmp_path):
    done = node(fit, NODE="3", OMP_NUM_THREADS="77")
    words = done.stdout.splitlines()
    assert done.returncode == 0 and done.stderr == "", done.stderr
    assert words[:2] == ["-m", "torch.distributed.run"]
    for flag, value in {
            "--nnodes": "4", "--nproc-per-node": "8", "--max-restarts": "3",
            "--rdzv-id": "name", "--rdzv-endpoint": "first:29400",
            "--local-addr": "here", "--model": "lite_16b",
            "--out": f"{tmp_path}/lite_16b",
            "--rdzv-conf": "is_host=false,join_timeout=900,read_timeout=900"}.items():
        assert words[words.index(flag) + 1] == value
    assert "is_host=true" in node(fit).stdout
    place = words.index(str(fit.parent / "start.py"))
    assert words[place + 1:place + 4] == ["-m", "minicoder", "pretrain"]
    threads = max(1, len(os.sched_getaffinity(0)) // 8)
    assert {f"OMP_NUM_THREADS={threads}", "NCCL_DEBUG=WARN",
            "TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1"} <= set(words)
    assert not any(word.startswith("NCCL_SOCKET_IFNAME") for word in words)


@pytest.mark.parametrize(("change", "said"), [
    ({"GPUS_PER_NODE": 9}, "torch sees 8 GPUs, and 9 are asked for"),
    ({"FREE_GIB": 10**9}, "GiB are free for .*/lite_16b, and 1000000000 are asked for"),
    ({"PYTHON": "/nowhere/python"}, "/nowhere/python does not import minicoder"),
    ({"smi": "1, 2, Not Active"}, "GPU 1 has 2 uncorrected memory errors"),
    ({"smi": "5, 0, Active"}, "GPU 5 is slowed down by heat or power")])
def test_an_unfit_node_is_named_and_starts_nothing(fit, program, change, said):
    if "smi" in change:
        program("nvidia-smi", f"#!/bin/sh\necho '{change['smi']}'")
    else:
        (name, value), = change.items()
        fit.write_text(re.sub(rf"^{name}=\S+", f"{name}={value}", fit.read_text(),
                              flags=re.MULTILINE))
    done = node(fit)
    assert done.returncode == 1 and done.stdout == ""
    assert re.search(f"cluster: here cannot take part: .*{said}", done.stderr)


def test_what_nvidia_smi_does_not_know_does_not_stop_a_run(fit, program):
    program("nvidia-smi", "#!/bin/sh\nexit 2")
    done = node(fit)
    assert done.returncode == 0 and "no word of nvidia-smi" in done.stderr


def test_a_network_card_is_passed_on(fit):
    fit.write_text(fit.read_text().replace("INTERFACE=", "INTERFACE=ib0"))
    words = node(fit).stdout.splitlines()
    assert {"NCCL_SOCKET_IFNAME=ib0", "GLOO_SOCKET_IFNAME=ib0"} <= set(words)


def test_one_node_is_enough_or_not(fit):
    start = fit.parent / "single_node.sh"
    refused = subprocess.run(["bash", start, fit], capture_output=True, text=True)
    assert refused.returncode == 2 and "asks for 4 nodes" in refused.stderr
    fit.write_text(fit.read_text().replace("NODES=4", "NODES=1"))
    words = subprocess.run(["bash", start, fit], capture_output=True, text=True,
                           check=True).stdout.splitlines()
    assert words[words.index("--rdzv-endpoint") + 1] == "localhost:29400"
    assert words[words.index("--nnodes") + 1] == "1"


# --- SLURM

WORK = """\
    '''Adds up ranks, step by step, and goes on where it was; dies as it is told to.'''
    import os, signal, sys
    from pathlib import Path
    import torch, torch.distributed as dist

    dist.init_process_group("gloo")
    rank, work = dist.get_rank(), Path(sys.argv[1])
    done = work / "done"
    first = len(done.read_text().splitlines()) if done.exists() else 0
    dist.barrier()
    for step in range(first, 6):
        for death in work.glob(f"die-{step}-{rank}-*"):
            death.unlink()
            os.kill(os.getpid(), signal.SIGKILL)
        number = torch.tensor([10.0 ** rank])
        dist.all_reduce(number)
        if rank == 0:
            with done.open("a") as file:
                file.write(f"{step} {number.item():.0f}\\n")
        dist.barrier()
    dist.destroy_process_group()    # gloo's threads abort a process that just ends
    """
SRUN = """\
    #!/usr/bin/env bash
    # a task on each node, as srun starts them; one that fails takes the others along
    nodes=$2
    while [ "$1" != bash ]; do shift; done
    for ((node = 0; node < nodes; node++)); do
        SLURM_PROCID=$node SLURM_NODEID=$node SLURM_LOCALID=0 \\
            SLURMD_NODENAME=localhost "$@" &
    done
    status=0
    for ((node = 0; node < nodes; node++)); do
        wait -n || { status=$?; kill $(jobs -p) 2> /dev/null; }
    done
    exit $status
    """


@pytest.fixture
def slurm(tmp_path, program):
    """A cluster of two nodes, both of which are this machine."""
    program("srun", SRUN)
    program("scontrol", f"""\
        #!/bin/sh
        case $1 in
            show) echo localhost; echo localhost ;;
            requeue) echo "$2" >> {tmp_path}/requeued ;;
        esac
        """)
    program("sbatch", f"""\
        #!/bin/sh
        printf '%s\\n' "$@" > {tmp_path}/submitted
        """)
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    (tmp_path / "work.py").write_text(textwrap.dedent(WORK))
    settings = copied(
        tmp_path / "cluster", DATA=tmp_path, PYTHON=sys.executable, DEVICE="cpu",
        NODES=2, GPUS_PER_NODE=1, FREE_GIB=0, PORT=port, RESTARTS=1, RETRY_AFTER=0,
        PROGRAM=f"({tmp_path}/work.py {tmp_path})")

    def job(restarts):
        given = dict(SLURM_JOB_ID="41", SLURM_JOB_NODELIST="n[1-2]",
                     SLURM_RESTART_COUNT=str(restarts), PYTHONPATH=str(ROOT))
        command = ["bash", tmp_path / "copy-of-slurm", settings, tmp_path / "cluster"]
        with subprocess.Popen(command, env=os.environ | given, text=True, stdout=-1,
                              stderr=-1, start_new_session=True) as run:
            try:
                out, said = run.communicate(timeout=300)
            except BaseException:
                os.killpg(run.pid, signal.SIGKILL)
                raise
        return subprocess.CompletedProcess(command, run.returncode, out, said)

    # a job's script is a copy in another folder
    shutil.copy(CLUSTER / "slurm.sh", tmp_path / "copy-of-slurm")
    return settings, job


def test_the_job_submits_itself_as_the_settings_say(slurm, tmp_path):
    settings, _ = slurm
    subprocess.run(["bash", settings.parent / "slurm.sh", settings], check=True,
                   env={k: v for k, v in os.environ.items() if k != "SLURM_JOB_ID"})
    words = (tmp_path / "submitted").read_text().splitlines()
    for flag, value in {"--job-name": "coder-lite", "--nodes": "2",
                        "--ntasks-per-node": "1", "--gpus-per-node": "1",
                        "--signal": "B:USR1@300"}.items():
        assert words[words.index(flag) + 1] == value
    assert {"--requeue", "--exclusive", "--partition=gpu"} <= set(words)
    assert words[-3:] == [str(settings.parent / "slurm.sh"), str(settings),
                          str(settings.parent)]


@pytest.mark.slow
def test_a_job_that_is_killed_goes_on(slurm, tmp_path):
    _, job = slurm
    for death in ("die-2-1-a", "die-4-1-b"):    # step, rank
        (tmp_path / death).touch()
    first = job(0)      # dies, is restarted by torchrun, dies for good
    assert first.returncode != 0
    assert first.stdout.count("2 processes added up 16,777,216 numbers") == 2
    assert (tmp_path / "requeued").read_text() == "41\n"
    assert len((tmp_path / "done").read_text().splitlines()) == 4
    again = job(1)
    assert again.returncode == 0, again.stderr
    assert (tmp_path / "requeued").read_text() == "41\n"
    assert (tmp_path / "done").read_text() == "".join(f"{n} 11\n" for n in range(6))


def test_a_job_goes_back_into_the_queue_before_its_time_is_over(
        slurm, program, tmp_path):
    _, job = slurm
    program("srun", '#!/bin/sh\nkill -USR1 $PPID\nsleep 0.5\n')
    done = job(0)
    assert done.returncode == 0 and "goes back into the queue" in done.stderr
    assert (tmp_path / "requeued").read_text() == "41\n"


def test_a_job_that_fails_at_once_is_left(slurm, program, tmp_path):
    settings, job = slurm
    settings.write_text(settings.read_text().replace("RETRY_AFTER=0", "RETRY_AFTER=99"))
    program("srun", "#!/bin/sh\nexit 7")
    assert job(0).returncode == 7 and not (tmp_path / "requeued").exists()


# --- Kubernetes

def filled(settings):
    """The file with the values of the settings, and these."""
    text = (CLUSTER / "kubernetes.yaml").read_text()
    names = re.findall(r"\$(\w+)", re.search("envsubst '(.*)'", text)[1])
    found = {name: value[0] for name, value in values(settings, *names).items()}
    for name, value in found.items():
        text = re.sub(rf"\$({name}\b|{{{name}}})", value, text)
    assert "${" not in text
    return text, found


@pytest.mark.skipif(not shutil.which("envsubst"), reason="envsubst is not installed")
@pytest.mark.parametrize("settings", SETTINGS, ids=lambda path: path.stem)
def test_envsubst_fills_in_the_kubernetes_file_as_it_says(settings):
    text = (CLUSTER / "kubernetes.yaml").read_text()
    script = re.search(r"(\(set -a.*?)\| kubectl apply", text, re.DOTALL)[1]
    script = re.sub(r"\\\n#", "\\\n", script).replace("$settings", str(settings))
    assert subprocess.run(["bash", "-c", script], cwd=ROOT, text=True, check=True,
                          capture_output=True).stdout == filled(settings)[0]


@pytest.mark.parametrize("settings", SETTINGS, ids=lambda path: path.stem)
def test_the_kubernetes_job_is_what_the_settings_say(settings, tmp_path):
    text, found = filled(settings)
    service, job = yaml.safe_load_all(text)
    assert (service["apiVersion"], job["apiVersion"]) == ("v1", "batch/v1")
    assert service["spec"]["clusterIP"] == "None"
    assert service["spec"]["selector"] == {"job-name": job["metadata"]["name"]}
    assert service["spec"]["ports"][0]["port"] == int(found["PORT"])
    spec, pod = job["spec"], job["spec"]["template"]["spec"]
    assert spec["completionMode"] == "Indexed"
    assert spec["completions"] == spec["parallelism"] == int(found["NODES"])
    assert pod["subdomain"] == service["metadata"]["name"] == found["NAME"]
    container, = pod["containers"]
    assert container["resources"]["limits"] == {
        "nvidia.com/gpu": int(found["GPUS_PER_NODE"])}
    assert ({m["name"] for m in container["volumeMounts"]}
            == {v["name"] for v in pod["volumes"]})
    assert found["DATA"] in {m["mountPath"] for m in container["volumeMounts"]}
    # the pod's own shell finds out which node it is
    said = tmp_path / "said.sh"
    said.write_text('echo "$NODE $HEAD $ADDRESS $RUN $1"')
    *shell, line = container["command"]
    out = subprocess.run(
        [*shell, line.replace("/cluster/run.sh", str(said))], check=True, text=True,
        env=os.environ | {"JOB_COMPLETION_INDEX": "7", "HOSTNAME": "pod-7"},
        capture_output=True).stdout
    name = found["NAME"]
    assert out == f"7 {name}-0.{name} pod-7.{name} {name} /cluster/settings.env\n"


# --- serving: neither engine is here; their flags and loaders were read

@pytest.fixture
def engines(program):
    for name in ("vllm", "python"):
        program(name, """#!/bin/sh\nprintf '%s\\n' "$@"\n""")


def serve(*words):
    return subprocess.run(["bash", CLUSTER / "serve.sh", *map(str, words)],
                          capture_output=True, text=True)


@pytest.mark.parametrize("size", ["lite", "full"])
def test_both_engines_are_given_the_folder_and_the_gpus(engines, tmp_path, size):
    for name in ("config.json", "tokenizer.json"):
        (tmp_path / name).touch()
    gpus, window = {"lite": ("1", "131072"), "full": ("8", "32768")}[size]
    for engine, first, flags in (
            ("vllm", ["serve", str(tmp_path)],
             ("--tensor-parallel-size", "--max-model-len")),
            ("sglang", ["-m", "sglang.launch_server", "--model-path", str(tmp_path)],
             ("--tp", "--context-length"))):
        words = serve(engine, size, tmp_path, "--port", "9").stdout.splitlines()
        assert words[:len(first)] == first and words[-2:] == ["--port", "9"]
        for flag, value in zip((*flags, "--dtype", "--host"),
                               (gpus, window, "bfloat16", "127.0.0.1"), strict=True):
            assert words[words.index(flag) + 1] == value
        assert "--trust-remote-code" not in words


def test_what_cannot_be_served_is_refused(engines, tmp_path):
    assert "has no config.json" in serve("vllm", "lite", tmp_path).stderr
    (tmp_path / "config.json").touch()
    assert "has no tokenizer.json" in serve("vllm", "lite", tmp_path).stderr
    (tmp_path / "tokenizer.json").touch()
    for words in ((), ("vllm",), ("other", "lite", tmp_path), ("vllm", "x", tmp_path)):
        done = serve(*words)
        assert done.returncode and "Usage" in done.stderr and not done.stdout


# read off vLLM's vllm/model_executor/models/deepseek_v2.py (commit 002d6073a) and
# SGLang's python/sglang/srt/models/deepseek_v2.py (commit 00114aef1): every field of
# the configuration that their DeepseekV2ForCausalLM takes
READ = """
    vocab_size hidden_size num_hidden_layers num_attention_heads num_key_value_heads
    kv_lora_rank q_lora_rank qk_nope_head_dim qk_rope_head_dim v_head_dim
    max_position_embeddings rms_norm_eps hidden_act intermediate_size
    moe_intermediate_size n_routed_experts n_shared_experts num_experts_per_tok
    norm_topk_prob n_group topk_group topk_method scoring_func routed_scaling_factor
    first_k_dense_replace moe_layer_freq model_type architectures
    """.split()


def parameters(config, fused):
    """(parameter, part of it) that the engines build; each is one stored tensor."""
    found = {("model.embed_tokens.weight", ""), ("model.norm.weight", ""),
             ("lm_head.weight", "")}
    for number in range(config.num_hidden_layers):
        layer = f"model.layers.{number}"
        attention = [("o_proj", ""), ("kv_a_layernorm", ""), ("kv_b_proj", "")]
        attention += ([("q_proj", ""), ("kv_a_proj_with_mqa", "")]
                      if config.q_lora_rank is None else
                      [(fused, "q_a_proj"), (fused, "kv_a_proj_with_mqa"),
                       ("q_a_layernorm", ""), ("q_b_proj", "")])
        found |= {(f"{layer}.self_attn.{name}.weight", part)
                  for name, part in attention}
        found |= {(f"{layer}.{name}_layernorm.weight", "")
                  for name in ("input", "post_attention")}
        mlp = f"{layer}.mlp"
        if config.is_moe(number):
            found |= {(f"{mlp}.gate.weight", "")}
            found |= {(f"{mlp}.experts.{name}_weight", (expert, part))
                      for expert in range(config.n_routed_experts)
                      for name, part in (("w13", "gate_proj"), ("w13", "up_proj"),
                                         ("w2", "down_proj"))}
            mlp += ".shared_experts"
        found |= {(f"{mlp}.gate_up_proj.weight", "gate_proj"),
                  (f"{mlp}.gate_up_proj.weight", "up_proj"),
                  (f"{mlp}.down_proj.weight", "")}
    return found


def placed(name, config, fused):
    """Where the loaders put a stored tensor: their tables of stacked parameters."""
    if match := re.fullmatch(r"(.*\.experts)\.(\d+)\.(\w+)\.weight", name):
        prefix, expert, part = match.groups()
        kind = "w2" if part == "down_proj" else "w13"
        return f"{prefix}.{kind}_weight", (int(expert), part)
    stacked = {"gate_proj": "gate_up_proj", "up_proj": "gate_up_proj"}
    if config.q_lora_rank is not None:
        stacked |= dict.fromkeys(("q_a_proj", "kv_a_proj_with_mqa"), fused)
    part = name.split(".")[-2]
    return ((name.replace(part, stacked[part]), part) if part in stacked
            else (name, ""))


@pytest.mark.parametrize("shape", [LITE, FULL], ids=["lite", "full"])
def test_the_exported_folder_is_what_both_loaders_ask_for(shape, tmp_path):
    from transformers import AutoConfig

    config = replace(shape, rope_scaling=YARN)
    random_model(config).save_pretrained(tmp_path, shard_bytes=100_000)
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
    names = index["weight_map"]
    for fused in ("fused_qkv_a_proj", "fused_qkv_a_proj_with_mqa"):  # vLLM's, SGLang's
        found = [placed(name, config, fused) for name in names]
        assert set(found) == parameters(config, fused)
        assert len(found) == len(set(found))
    stored = json.loads((tmp_path / "config.json").read_text())
    read = AutoConfig.from_pretrained(tmp_path)      # as both engines do
    assert {name: getattr(read, name) for name in READ} == {
        name: stored[name] for name in READ}
    assert read.architectures == ["DeepseekV2ForCausalLM"]
    assert read.model_type == "deepseek_v2" and read.pad_token_id is None
    for rope in (stored["rope_scaling"], read.rope_parameters):
        assert rope["factor"] == 40
        assert rope["mscale_all_dim"] == rope["mscale"] == 0.707
        assert rope["original_max_position_embeddings"] == 64
        assert (rope["beta_fast"], rope["beta_slow"]) == (32, 1)
    assert read.rope_parameters["rope_type"] == "yarn"
    assert read.rope_parameters["rope_theta"] == 10000
