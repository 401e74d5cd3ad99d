"""Table 1 in small: old corpus against new, matched and doubled tokens, three seeds.

    python benchmarks/ablation.py [--archives runs/packages] [--out runs/ablation]

The command `ablation` on packages of many languages (`make packages`). Interrupted, it
goes on. Writes benchmarks/results/ablation.json and ablation.md.
"""

from __future__ import annotations

from pathlib import Path

import tyro

from minicoder.evaluation.ablation import ablation, page
from minicoder.stages import read_json, write_json, write_text

RESULTS = Path(__file__).parent / "results"


def main(archives: tuple[Path, ...] = (Path("runs/packages"),),
         out: Path = Path("runs/ablation"), seeds: tuple[int, ...] = (0, 1, 2),
         steps: int = 200) -> None:
    """Run it and keep what came out."""
    found = read_json(ablation(out, archives, seeds=seeds, steps=steps)
                      / "ablation.json")
    write_json(RESULTS / "ablation.json", found)
    write_text(RESULTS / "ablation.md", page(found, "python benchmarks/ablation.py"))


if __name__ == "__main__":
    tyro.cli(main)
