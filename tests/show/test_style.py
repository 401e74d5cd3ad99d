"""The palette is readable and colour-blind-safe; figures are the same each time."""

import itertools
import xml.etree.ElementTree as ET

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest

from minicoder.show.style import COMPARED, PALETTE, label_lines, save_svg, use_style

SIGHT = {  # what dichromats see, linear RGB: Machado, Oliveira, Fernandes 2009
    "all cones": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216],
                   [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413],
                     [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602],
                   [0.004733, 0.691367, 0.303900]],
}
OKLAB = (np.array([[0.4122214708, 0.5363325363, 0.0514459929],
                   [0.2119034982, 0.6806995451, 0.1073969566],
                   [0.0883024619, 0.2817188376, 0.6299787005]]),
         np.array([[0.2104542553, 0.7936177850, -0.0040720468],
                   [1.9779984951, -2.4285922050, 0.4505937099],
                   [0.0259040371, 0.7827717662, -0.8086757660]]))
NAMES = [name for name in PALETTE if name not in ("paper", "panel", "rule")]


def linear(colour: str | np.ndarray) -> np.ndarray:
    """sRGB to linear light."""
    rgb = np.array(mpl.colors.to_rgb(colour))
    return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)


def contrast(one: str | np.ndarray, two: str | np.ndarray) -> float:
    """WCAG 2.2 contrast ratio."""
    weights = np.array([0.2126, 0.7152, 0.0722])
    low, high = sorted(float(weights @ linear(c)) for c in (one, two))
    return (high + 0.05) / (low + 0.05)


def seen(colour: str, sight: str) -> np.ndarray:
    """A colour in OKLab as seen with `sight`."""
    light = np.clip(np.array(SIGHT[sight]) @ linear(colour), 0, 1)
    return OKLAB[1] @ np.cbrt(OKLAB[0] @ light)


def test_the_contrast_of_black_on_white_is_21():
    assert contrast("#000", "#fff") == pytest.approx(21)


@pytest.mark.parametrize("mode", (0, 1))
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("ground", ("paper", "panel"))
def test_every_colour_can_be_read_as_text(name, mode, ground):
    assert contrast(PALETTE[name][mode], PALETTE[ground][mode]) >= 4.5


@pytest.mark.parametrize("mode", (0, 1))
@pytest.mark.parametrize("sight", SIGHT)
def test_compared_colours_differ_for_every_kind_of_sight(mode, sight):
    for group in COMPARED:
        for a, b in itertools.combinations(group, 2):
            gap = np.linalg.norm(
                seen(PALETTE[a][mode], sight) - seen(PALETTE[b][mode], sight))
            assert gap > 0.06, (a, b, float(gap))


@pytest.mark.parametrize("mode", (0, 1))
def test_numbers_in_tinted_needle_cells_stay_readable(mode):
    """A cell is `after` over `panel` at 0.45 times its share; the number is ink."""
    ground, tint, ink = (np.array(mpl.colors.to_rgb(PALETTE[name][mode]))
                         for name in ("panel", "after", "ink"))
    for share in np.linspace(0, 1, 11):
        assert contrast(ink, ground + 0.45 * share * (tint - ground)) >= 4.5


def figure(colours: dict[str, str]) -> plt.Figure:
    drawn, axes = plt.subplots()
    axes.plot([0, 1], [0, 1], color=colours["sft"], label="SFT")
    axes.plot([0, 1], [0, 1.001], color=colours["grpo"], label="GRPO")
    axes.set_title("GRPO is <higher>")
    label_lines(axes)
    return drawn


def test_an_svg_for_light_and_for_dark_with_its_words(tmp_path):
    light, dark = save_svg(figure, tmp_path / "curve.svg", "Two lines & their ends.")
    assert (light.name, dark.name) == ("curve-light.svg", "curve-dark.svg")
    for path, mode in ((light, 0), (dark, 1)):
        text = path.read_text(encoding="utf-8")
        root = ET.fromstring(text)
        words = [root.find(f"{{http://www.w3.org/2000/svg}}{tag}").text
                 for tag in ("title", "desc")]
        assert words == ["GRPO is <higher>", "Two lines & their ends."]
        assert root.get("role") == "img" and "<dc:date>" not in text
        assert PALETTE["grpo"][mode] in text and PALETTE["grpo"][1 - mode] not in text
        assert PALETTE["paper"][mode] not in text  # the background is transparent


def test_an_svg_has_the_same_bytes_every_time(tmp_path):
    first = [p.read_bytes() for p in save_svg(figure, tmp_path / "a.svg", "alt")]
    again = [p.read_bytes() for p in save_svg(figure, tmp_path / "b.svg", "alt")]
    assert first == again and first[0] != first[1]


def test_saving_leaves_the_style_of_the_notebook_alone(tmp_path):
    use_style()
    save_svg(figure, tmp_path / "a.svg", "alt")
    assert mpl.rcParams["text.color"] == PALETTE["ink"][0]


def test_labels_stand_at_the_ends_and_apart():
    drawn = figure(use_style())
    texts = drawn.axes[0].texts
    assert {text.get_text() for text in texts} == {"SFT", "GRPO"}
    heights = sorted(text.xy[1] for text in texts)
    assert heights[1] - heights[0] > 0.06
    plt.close(drawn)
