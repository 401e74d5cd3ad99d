"""Start a program in every process of a run, once all of them have added up numbers.

    torchrun ... cluster/start.py -m minicoder pretrain --out ...

A wire, a GPU or a library that is broken shows here, within minutes of the start and of
every restart, and not as a training step that never ends.
"""

import os
import runpy
import sys
import time
from datetime import timedelta

import torch
import torch.distributed as dist

NUMBERS = 2**24     # 64 MiB of float32
PATIENCE = timedelta(minutes=5)


def add_up() -> dist.Store:
    """An all-reduce over all processes; an error when it fails or its sum is wrong.

    Returns the store where they met, which must live as long as the program.
    """
    cuda = torch.cuda.is_available()
    device = torch.device("cuda", int(os.environ["LOCAL_RANK"])) if cuda else "cpu"
    store, rank, world = next(dist.rendezvous("env://", timeout=PATIENCE))
    # under a prefix: the program itself will use the same store
    dist.init_process_group(
        "nccl" if cuda else "gloo", store=dist.PrefixStore("check", store), rank=rank,
        world_size=world, timeout=PATIENCE)
    for _ in range(2):  # the first makes the connections
        numbers = torch.full((NUMBERS,), rank + 1.0, device=device)
        began = time.monotonic()
        dist.all_reduce(numbers)
        wrong = (numbers != world * (world + 1) / 2).sum().item()   # waits for the GPU
        seconds = time.monotonic() - began
    dist.destroy_process_group()
    if wrong:
        raise SystemExit(f"cluster: process {rank}: {wrong:,} of {NUMBERS:,} sums over "
                         f"{world} processes are wrong")
    if rank == 0:
        print(f"cluster: {world} processes added up {NUMBERS:,} numbers in "
              f"{seconds:.3f} s", flush=True)
    return store


if __name__ == "__main__":
    store = add_up()
    del sys.argv[0]
    if sys.argv[0] == "-m":
        del sys.argv[0]
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
    else:
        runpy.run_path(sys.argv[0], run_name="__main__")
