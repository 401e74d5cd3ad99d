"""Accelerators that a plan can be made for, and the one figure that anchors its times.

Peaks are of dense matrices; links are bytes a second of one direction. NVIDIA's data
sheets and DGX manuals, where nothing else is said.
"""

from __future__ import annotations

from dataclasses import dataclass

from minicoder.config import Real, preset
from minicoder.errors import UserError
from minicoder.parallel.economy import Precision
from minicoder.scale import flops


@dataclass(frozen=True)
class Device:
    """What one accelerator can do at most; eight of them share a node."""

    name: str
    bfloat16: Real     # FLOP/s
    float32: Real      # FLOP/s, without TF32, which torch leaves off
    memory: Real       # bytes
    bandwidth: Real    # bytes a second, of its own memory
    node_link: Real    # to others of its node
    network: Real      # to other nodes
    source: str

    def peak(self, precision: Precision) -> Real:
        """FLOP/s of matrices of a type."""
        return self.bfloat16 if precision == "bfloat16" else self.float32


NODE = 8    # accelerators that share the fast link
DEVICES = {device.name: device for device in (
    Device("h800", 989e12, 67e12, 80e9, 3.35e12, 160e9, 50e9,
           "H100's chip; links as DeepSeek-V3 §3.2.2 has them: 160 and 50 GB/s"),
    Device("h100", 989e12, 67e12, 80e9, 3.35e12, 450e9, 50e9,
           "H100 SXM data sheet; DGX H100: NVLink 900 GB/s both ways, 8 x 400 Gb/s"),
    Device("h200", 989e12, 67e12, 141e9, 4.8e12, 450e9, 50e9,
           "H200 SXM data sheet; NVLink and network as DGX H100"),
    Device("a100", 312e12, 19.5e12, 80e9, 2.04e12, 300e9, 25e9,
           "A100 80 GB SXM data sheet; DGX A100: NVLink 600 GB/s both ways, 8 x 200 "
           "Gb/s"))}

PAPER_HOURS = 172.8e3   # H800-hours for 1T tokens of the 236B (DeepSeek-V2 §3.2.3)
PAPER_CONTEXT = 4096    # DeepSeek-V2 §3.1.2


def find_device(name: str) -> Device:
    """An accelerator by its name."""
    if name not in DEVICES:
        raise UserError(f"--device {name}: choose one of {', '.join(DEVICES)}, and "
                        "give another's --memory and --utilisation.")
    return DEVICES[name]


def paper_utilisation(causal: bool = True) -> Real:
    """The share of an H800's peak that DeepSeek-V2's training used: its own figure.

    0.25 of the products that causal attention needs, and 0.30 when all keys count, as
    others do.
    """
    speed = 1e12 / (PAPER_HOURS * 3600)     # tokens a second and GPU
    work = flops.training(preset("full_236b"), PAPER_CONTEXT, causal)
    return speed * work / DEVICES["h800"].bfloat16
