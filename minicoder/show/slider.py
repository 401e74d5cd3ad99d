"""A slider over precomputed figures: one HTML output that works with no kernel."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Sequence
from html import escape

import matplotlib.pyplot as plt
from IPython.display import HTML
from matplotlib.figure import Figure

_SCRIPT = """(() => {
 const box = document.getElementById(NAME), frames = box.querySelectorAll("img");
 const range = box.querySelector("input"), out = box.querySelector("output");
 range.addEventListener("input", () => {
  frames.forEach((f, i) => { f.style.display = i == range.value ? "" : "none"; });
  out.textContent = frames[range.value].alt;
  range.setAttribute("aria-valuetext", out.textContent);
 });
})();"""


def frame_slider(
    figures: Sequence[Figure], labels: Sequence[str], name: str, start: int = 0
) -> HTML:
    """Switch between `figures`, one a slider position; closes the figures.

    `labels` say in words what each frame shows (they are its alt text); `name` must be
    unique on its page. Raises `ValueError` when the two lengths differ.
    """
    frames = []
    for i, (figure, label) in enumerate(zip(figures, labels, strict=True)):
        picture = io.BytesIO()
        figure.savefig(picture, format="png", metadata={"Software": None})
        plt.close(figure)
        data = base64.b64encode(picture.getvalue()).decode()
        # a style, for JupyterLab drops `hidden` from outputs that it does not trust yet
        away = "" if i == start else ";display:none"
        frames.append(f'<img alt="{escape(label)}" style="max-width:100%{away}"'
                      f' src="data:image/png;base64,{data}">')
    script = _SCRIPT.replace("NAME", json.dumps(name).replace("<", "\\u003c"))
    return HTML(
        f'<div id="{escape(name)}"><label><input type="range" min="0"'
        f' max="{len(frames) - 1}" value="{start}" aria-label="{escape(name)}">'
        f' <output>{escape(labels[start])}</output></label>'
        f'<div>{"".join(frames)}</div></div><script>{script}</script>')
