"""The rounds of recall: what is kept, whose domain it is, and that rounds help."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minicoder.data.annotators import by_samples, nobody
from minicoder.data.classifier import Recipe
from minicoder.data.page_store import PageStore
from minicoder.data.rounds import (
    below_paths,
    best,
    examples,
    own_domains,
    recall_rounds,
)
from minicoder.tokenizer import Tokenizer

RECIPE = Recipe(dimension=16, rate=1.0, epochs=8, buckets=1 << 14)
# topic: (subject?, its own words); the two topics of the subject share few words
TOPICS = {"sums": (True, "sum add total plus carry digit"),
          "shapes": (True, "angle circle edge round corner area"),
          "cooking": (False, "salt pepper oven plate dinner soup"),
          "weather": (False, "rain wind cloud storm warm sky")}
COMMON = "the of and a in to is it that for with as on was by this".split()


def page(topic, random):
    words = [str(random.choice(TOPICS[topic][1].split())) if random.random() < 0.4
             else str(random.choice(COMMON)) for _ in range(40)]
    # one page in three of the second topic mentions the first
    if topic == "shapes" and random.random() < 0.3:
        words[::5] = random.choice(TOPICS["sums"][1].split(), 8).tolist()
    return " ".join(words)


@pytest.fixture(scope="module")
def tokenizer():
    text = " ".join(words for _, words in TOPICS.values()) + " " + " ".join(COMMON)
    return Tokenizer.train([f"{text} " * 20], 350)


@pytest.fixture(scope="module")
def web(tokenizer, tmp_path_factory):
    """60 pages a topic and 240 of the weather, on two sites of mathematics and one."""
    random = np.random.default_rng(0)
    homes = {"sums": "school.example", "shapes": "school.example",
             "cooking": "home.example", "weather": "home.example"}
    rows = [(homes[topic], f"/{topic}/{i}", page(topic, random)) for topic in TOPICS
            for i in range(240 if topic == "weather" else 60)]
    random.shuffle(rows)
    rows = [tuple(map(str, row)) for row in rows]
    return PageStore.write(tmp_path_factory.mktemp("web"), rows, tokenizer)


@pytest.fixture(scope="module")
def subject(web):
    found = np.zeros(len(web), bool)
    found[[one.index for one in web.pages(np.ones(len(web), bool))
           if TOPICS[one.path.split("/")[1]][0]]] = True
    return found


@pytest.fixture(scope="module")
def seeds(tokenizer):
    random = np.random.default_rng(1)
    return [np.array(tokenizer.encode(page("sums", random)), np.uint32)
            for _ in range(30)]


def run(web, seeds, tokenizer, subject, annotate, **more):
    return list(recall_rounds(web, seeds, tokenizer.vocab_size, annotate,
                              int(web.sizes[subject].sum()), recipe=RECIPE, **more))


def labels(web, subject):
    return {one.domain + one.path for one in web.pages(subject)}


def test_rounds_find_the_topic_that_no_example_showed(web, seeds, tokenizer, subject):
    helped = run(web, seeds, tokenizer, subject, by_samples(labels(web, subject)))
    alone = run(web, seeds, tokenizer, subject, nobody)

    def share(one):
        return (one.kept & subject).sum() / subject.sum()

    assert share(helped[0]) == share(alone[0]) < 0.9 < share(helped[-1])
    assert share(helped[-1]) > share(alone[-1]) + 0.1
    assert helped[0].joined > 0 == alone[0].joined
    own = own_domains(web, helped[0].kept)
    named = below_paths(web, own, by_samples(labels(web, subject)))
    assert helped[0].annotated == named.sum()
    assert helped[0].joined == (named & ~helped[0].kept).sum()
    assert helped[1].examples == helped[0].examples + helped[0].joined
    assert "school.example" in helped[0].domains and helped[0].known == 0.0


def test_it_stops_when_a_round_was_known(web, seeds, tokenizer, subject):
    found = run(web, seeds, tokenizer, subject, by_samples(labels(web, subject)),
                rounds=9)
    assert len(found) < 9 and found[-1].known >= 0.98
    assert all(one.known < 0.98 for one in found[:-1])
    assert [one.number for one in found] == list(range(1, len(found) + 1))
    again = (found[-1].kept & found[-2].kept)
    assert found[-1].known == web.sizes[again].sum() / found[-1].tokens


def test_the_seed_decides_all(web, seeds, tokenizer, subject):
    one, same, other = (run(web, seeds, tokenizer, subject, nobody, rounds=1,
                            seed=seed)[0].kept for seed in (1, 1, 2))
    assert (one == same).all() and (one != other).any()


@given(st.lists(st.tuples(st.sampled_from([0.1, 0.5, 0.9]), st.integers(0, 9)),
                max_size=12), st.integers(1, 40))
def test_the_best_fill_the_budget_and_not_more(pages, budget):
    scores = np.array([score for score, _ in pages], np.float32)
    sizes = np.array([size for _, size in pages], np.int64)
    kept = best(scores, sizes, budget)
    order = sorted(range(len(pages)), key=lambda i: (-pages[i][0], i))
    count, total = 0, 0
    while count < len(order) and total + pages[order[count]][1] <= budget:
        total += pages[order[count]][1]
        count += 1
    assert kept.nonzero()[0].tolist() == sorted(order[:count])


@pytest.mark.parametrize("chosen, own", [(1, False), (2, True)])
def test_a_domain_needs_more_than_ten_per_cent(tmp_path, tokenizer, chosen, own):
    rows = [("ten.example", f"/{i}", "the") for i in range(10)]
    web = PageStore.write(tmp_path, rows + [("none.example", "/", "of")], tokenizer)
    kept = np.arange(len(web)) < chosen
    assert own_domains(web, kept).tolist() == ([0] if own else [])


def test_only_the_subject_s_domains_are_asked_about(web):
    asked = {}

    def annotate(domain, paths):
        asked[domain] = len(paths)
        return [path for path in paths if path.startswith("/sums/")]

    number = web.domains.index("school.example")
    named = below_paths(web, np.array([number]), annotate)
    assert asked == {"school.example": 120}
    assert {one.path.split("/")[1] for one in web.pages(named)} == {"sums"}
    assert named.sum() == 60


def test_examples_of_both_sides_are_as_many(web, seeds):
    joined = np.arange(len(web)) < 50
    others = {web.tokens(i).tobytes() for i in range(50, len(web))}
    random = np.random.default_rng(0)
    for most, count in ((1000, 80), (20, 20)):
        yes, no = examples(web, seeds, joined, most, random)
        assert len(yes) == len(no) == count
        assert {one.tobytes() for one in no} <= others
