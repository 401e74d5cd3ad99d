"""A stage of several processes: one record, one refusal, and nobody waits for ever."""

import pytest
from dealt import team_in

from minicoder.errors import UserError
from minicoder.parallel.layout import ALONE, Layout
from minicoder.parallel.together import team_stage
from minicoder.stages import read_json


def write_own_file(folder, settings):
    team = team_in(Layout())
    try:
        with team_stage(team, folder, "test", settings, seed=3) as run:
            if not run.finished:
                (run.work / f"{team.rank}.txt").write_text("here")
                run.headline = "done"
            found = (run.finished, run.resumed)
    except (UserError, OSError) as error:
        return str(error)
    team.wait()
    return found


def test_it_is_made_once_and_found_again_by_all(gang, tmp_path):
    folder = tmp_path / "out"
    assert gang(2).run(write_own_file, folder, {"a": 1}) == [(False, False)] * 2
    made = read_json(folder / "made_by.json")
    assert made["outputs"].keys() == {"0.txt", "1.txt"} and made["headline"] == "done"
    assert gang(2).run(write_own_file, folder, {"a": 1}) == [(True, False)] * 2


def test_the_main_process_says_what_is_refused_and_the_others_leave(gang, tmp_path):
    folder = tmp_path / "out"
    gang(2).run(write_own_file, folder, {"a": 1})
    said, other = gang(2).run(write_own_file, folder, {"a": 2})
    assert "made with a = 1, and now 2 is asked" in said
    said, also = gang(2).run(write_own_file, folder / "made_by.json" / "x", {"a": 2})
    assert "Not a directory" in said
    assert other == also == "The main process could not begin; it says why."


def test_a_process_alone_has_the_stage_as_it_is(tmp_path):
    with team_stage(ALONE, tmp_path / "out", "test", {}) as run:
        (run.work / "file").write_text("")
    assert (tmp_path / "out" / "made_by.json").exists()
    with pytest.raises(UserError, match="made with a"):
        with team_stage(ALONE, tmp_path / "out", "test", {"a": 1}):
            pass
