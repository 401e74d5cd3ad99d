"""The small web: labels hold, examples are apart, chance comes from the seed."""

import random
from collections import Counter
from dataclasses import replace

import pytest

from minicoder.data.small_web import (
    CHANGED,
    LEAST,
    LONGEST,
    MOST,
    deal,
    described,
    licences,
    mirror,
    page_text,
    small_host,
    small_web,
    spread,
    system_texts,
    topic_of,
)
from minicoder.data.sources import Document

DOC = Document("text", "sympy/sets/fancysets.py:9", "reStructuredText", "math",
               "sympy: docstrings", "BSD")
TOPICS = {("math", "sympy/sets"): 60, ("math", "sympy/polys"): 90,
          ("text", "numpy/lib"): 70, ("text", "numpy/linalg"): 40, ("note", "x"): 300}


def documents():
    """Documents of made words: a few per topic, the rest their own."""
    rng = random.Random(5)
    for (kind, place), count in TOPICS.items():
        origin = "system: help" if kind == "note" else f"{place[:5]}: docstrings"
        for number in range(count):
            text = " ".join(f"{place[-4:]}{rng.randrange(50)} w{rng.randrange(10 ** 6)}"
                            for _ in range(30))
            yield Document(text, f"{place}/f{number}.py:1", "Text",
                           "text" if kind == "note" else kind, origin, "MIT")


@pytest.fixture(scope="module")
def web():
    return small_web(documents(), seed=1, domains=12)


@pytest.mark.parametrize("change, topic", [
    ({}, ("math", "sympy-sets")), ({"kind": "text"}, ("code", "sympy-sets")),
    ({"path": "mpmath/calculus.py:3"}, ("math", "mpmath-calculus")),
    ({"kind": "code", "origin": "tqdm", "language": "C++"}, ("code", "source-c++")),
    ({"kind": "code", "origin": "tqdm", "language": "JSON"}, ("other", "data")),
    ({"kind": "text", "origin": "Python: language reference"},
     ("code", "language-reference")),
    ({"kind": "text", "origin": "system: help"}, ("other", "help"))])
def test_topics(change, topic):
    assert topic_of(replace(DOC, **change)) == topic


def test_mathematics_loses_its_interactive_examples_and_nothing_else():
    text = "A set.\n\n>>> from sympy import S\n>>> S.Reals\nReals\n\nIt is open."
    assert page_text(replace(DOC, text=text), "math") == "A set.\n\n\nIt is open."
    assert page_text(replace(DOC, text=text), "code") == text
    assert len(page_text(replace(DOC, text="word\n" * 5000), "code")) <= LONGEST


def test_every_label_is_the_text_s_and_paths_lie_a_little(web):
    astray = Counter()
    for page in web.pages:
        word = {"sympy-sets": "sets", "sympy-polys": "olys", "numpy-lib": "/lib",
                "numpy-linalg": "nalg", "help": "x"}[page.topic]
        assert sum(word in w for w in page.text.split()) > 10
        if "mirror" not in page.url:
            astray[page.url.split("/")[3] != page.topic] += 1
    assert 0.01 < astray[True] / astray.total() < 0.09


def test_examples_are_half_of_a_topic_and_not_in_the_web(web):
    texts = " ".join(page.text for page in web.pages if "mirror" not in page.url)
    for subject, seeds in web.seeds.items():
        (topic,) = web.seed_topics[subject]
        size = TOPICS[{"math": "math", "code": "text"}[subject],
                      topic.replace("-", "/")]
        assert len(seeds) == size // 2 >= LEAST // 2
        assert not any(seed in texts for seed in seeds)
    assert set(web.seeds) == {"code", "math"}
    assert web.seed_topics["math"] == ["sympy-sets"]    # never the largest


def test_the_seed_decides_all(web):
    assert small_web(documents(), seed=1, domains=12) == web
    assert small_web(documents(), seed=2, domains=12).pages != web.pages


def test_domains_are_mixed_or_of_one_subject():
    homes = deal([(s, str(i)) for s in ("code", "math", "other") for i in range(30)],
                 16, random.Random(0))
    for (subject, _), found in homes.items():
        assert 1 <= len(found) <= 3
        assert {d % 4 for d in found} <= {("code", "math", "other").index(subject), 3}
    assert any(d % 4 == 3 for found in homes.values() for d in found)


def test_a_mirror_changes_few_words_and_no_white_space():
    text = "\n".join(f"a{i}  b{i}" for i in range(2000))
    copy = mirror(text, random.Random(0))
    old, new = text.split(), copy.split()
    changed = sum(a != b for a, b in zip(old, new, strict=True)) / len(old)
    assert CHANGED / 2 < changed < CHANGED * 2
    assert copy.count("\n") == text.count("\n") and copy.count("  ") == 2000


def test_spread_keeps_at_most_as_many_from_end_to_end():
    texts = [str(i) for i in range(3 * MOST)]
    assert spread(texts) == texts[::3] and spread(texts[:5]) == texts[:5]
    assert spread([]) == []


def test_a_host_knows_well_described_files():
    good = '"""' + "What this module is for. " * 20 + '"""\nx = 1\n' + "y = 2\n" * 40
    bad = "value = compute(1)\n" * 60
    files = [Document(good + f"z = {name}{i}", f"{name}/{i}.py", "Python", "code",
                      name, "") for name in ("one", "two") for i in range(40)]
    files += [Document(bad + f"z = {i}", f"one/bad{i}.py", "Python", "code", "one", "")
              for i in range(20)]
    assert described(files[0]) and not described(files[-1])
    assert not described(replace(files[0], text="def f(:\n"))
    host = small_host(files)
    assert Counter(page.subject for page in host.pages) == {"code": 60, "other": 20}
    assert len(host.seeds["code"]) == 20
    assert host.pages[0].url.startswith("https://code.example/")


def test_prose_of_the_system(tmp_path):
    (tmp_path / "doc" / "tool").mkdir(parents=True)
    (tmp_path / "doc" / "tool" / "copyright").write_text("All rights are given.")
    (tmp_path / "man" / "man1").mkdir(parents=True)
    (tmp_path / "man" / "man1" / "broken.1.gz").write_text("no archive")
    (found,) = system_texts(tmp_path)
    assert (found.text, topic_of(found)) == ("All rights are given.",
                                             ("other", "rights"))
    assert list(system_texts(tmp_path / "missing")) == []


def test_licences_are_prose_in_pieces():
    found = list(licences())
    assert found and all(len(one.text) <= LONGEST for one in found)
    assert {topic_of(one) for one in found} == {("other", "licence")}
