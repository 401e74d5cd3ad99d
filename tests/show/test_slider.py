"""The slider shows one frame, needs no kernel and lets no label break out."""

import re

import matplotlib.pyplot as plt
import pytest

from minicoder.show.slider import frame_slider


def slider(labels: list[str], name: str = "steps", start: int = 1) -> str:
    figures = [plt.figure(figsize=(1, 1)) for _ in labels]
    return frame_slider(figures, labels, name, start).data


def test_one_frame_for_each_label_and_one_of_them_visible():
    page = slider(["a", "b", "c"])
    assert page.count("<img ") == 3 and page.count("display:none") == 2
    assert 'max="2" value="1"' in page and "<output>b</output>" in page


def test_labels_and_name_are_escaped():
    page = slider(['<c> "x"', "b"], name="</script>")
    assert "&lt;c&gt; &quot;x&quot;" in page and page.count("</script>") == 1


def test_nothing_is_loaded_from_outside():
    assert "http" not in re.sub(r"base64,[^\"]*", "", slider(["a", "b"]))


def test_the_bytes_are_the_same_every_time_and_figures_are_closed():
    before = plt.get_fignums()
    assert slider(["a", "b"]) == slider(["a", "b"])
    assert plt.get_fignums() == before


def test_a_label_for_each_figure():
    with pytest.raises(ValueError):
        frame_slider([plt.figure()], ["a", "b"], "x")
    plt.close("all")
