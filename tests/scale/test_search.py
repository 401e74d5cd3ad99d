import pytest

from minicoder.config import preset
from minicoder.parallel.layout import Layout
from minicoder.scale.devices import find_device
from minicoder.scale.plan import Work, plan
from minicoder.scale.search import (
    Wish,
    budgets,
    divisors,
    layouts,
    least,
    proposals,
    unlike,
)

WHOLE, LITE = preset("full_236b"), preset("lite_16b")
OPEN, H800 = Layout(0, 1, 0, 0, 0, ""), find_device("h800")


def test_layouts_keep_to_the_wish():
    found = list(layouts(WHOLE, Wish(64, Layout(4, 1, 0, 2, 0, "GPipe"))))
    assert found and all(
        (b.pipeline, b.tensor, b.pipeline_schedule) == (4, 2, "GPipe") and b.world == 64
        and b.shard * b.tensor % b.expert == 0 for b in found)
    assert list(layouts(WHOLE, Wish(64, Layout(3, 1, 0, 0, 0, "")))) == []
    dense = preset("ablation_1b")
    assert {b.expert for b in layouts(dense, Wish(8, OPEN))} == {1}
    assert divisors(12, 0, 6) == [1, 2, 3, 4, 6] and divisors(12, 5, 6) == []


def test_what_fits_comes_first_and_the_cheapest_of_it():
    found = budgets(LITE, Work(rows=1024), Wish(16, OPEN), H800, None)
    fitting = [b for b in found if b.over <= 0]
    assert fitting and found[:len(fitting)] == fitting
    hours = [b.gpu_hours for b in fitting]
    assert hours == sorted(hours)
    for b in (found[0], found[-1]):     # and each is what `plan` says
        assert plan(LITE, b.layout, b.work, H800) == b


def test_what_was_decided_stays():
    wish = Wish(16, OPEN, recompute="yes", rounds=8)
    found = budgets(LITE, Work(rows=1024), wish, H800, None)
    assert found and all(b.work.recompute and b.work.rounds == 8 for b in found)
    no = Wish(16, OPEN, recompute="no")
    assert not any(b.work.recompute
                   for b in budgets(LITE, Work(rows=1024), no, H800, None))


def test_proposals_fit_and_differ():
    # the smallest clusters hold neither weights nor moments of the 236B
    found = proposals(WHOLE, Work(), Wish(64, OPEN), H800, None)
    assert found and all(b.over <= 0 and b.layout.world > 64 for b in found)
    assert len(unlike(found)) == len(found)
    assert {b.layout.world for b in found} == {found[0].layout.world}


def test_a_shorter_context_is_the_last_resort():
    asked = Work(context=65536, rows=576)
    found = proposals(LITE, asked, Wish(4096, OPEN), H800, None)
    assert found and all(b.work.context < 65536 for b in found)
    assert all(b.step_tokens == 576 * 65536 for b in found)
    assert proposals(WHOLE, Work(), Wish(8, OPEN), H800, 1e9) == []


@pytest.mark.parametrize("work", [
    Work(context=8192, rows=64), Work("serve", 32768, 8),
    Work(context=4096, rows=64, precision="float32")], ids=str)
def test_no_plan_needs_less_than_the_least(work):
    bound = least(LITE, work, 8)
    for b in budgets(LITE, work, Wish(8, OPEN), H800, None):
        assert b.stages[b.worst].total >= bound
