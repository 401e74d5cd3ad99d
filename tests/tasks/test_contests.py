"""Contest problems: windows of dates, weighted scores, and their files."""

import json

import pytest

from minicoder.errors import UserError
from minicoder.tasks.contests import Contest, by_difficulty, weighted_mean, window
from minicoder.tasks.formats import read_tasks, write_tasks

# Coder-V2 table 4: easy (82), medium (87), hard (57), overall
TABLE = ((74.9, 16.8, 1.8, 34.1), (77.2, 16.7, 0.7, 34.6), (78.4, 20.2, 3.5, 37.1),
         (84.1, 35.4, 6.1, 45.7), (87.4, 27.5, 4.9, 43.4), (66.5, 17.7, 0.2, 31.0),
         (51.6, 9.7, 0.4, 22.5), (62.4, 14.4, 2.1, 28.7), (58.5, 8.0, 0.0, 24.3),
         (84.1, 29.9, 5.3, 43.4))
OURS = {"task_id": "c/1", "statement": "Double n.", "tests": [["2\n", "4\n"]],
        "date": "2024-02-29", "difficulty": 2, "platform": "minicoder"}
THEIRS = {"question_title": "t", "question_content": "Double n.", "platform": "atcoder",
          "question_id": "abc1_a", "contest_id": "abc1", "starter_code": "",
          "contest_date": "2024-03-01T00:00:00", "difficulty": "hard",
          "public_test_cases": json.dumps(
              [{"input": "2\n", "output": "4\n", "testtype": "stdin"}]),
          "private_test_cases": json.dumps([{"input": "3", "output": "6"}])}


def test_the_weighted_mean_is_that_of_the_paper():
    counts = {"easy": 82, "medium": 87, "hard": 57}
    for *row, overall in TABLE:
        groups = {name: (counts[name], score)
                  for name, score in zip(counts, row, strict=True)}
        # one row differs by 0.13 from what its own columns give, the others by 0.05
        assert weighted_mean(groups) == pytest.approx(overall, abs=0.14)
    assert weighted_mean(groups) == pytest.approx(43.36, abs=0.005)


def test_scores_by_difficulty_weigh_to_the_plain_mean():
    problems = [Contest(f"c/{n}", "", (), "2024-01-01", n % 5 + 1, "p")
                for n in range(13)]
    scores = [n % 3 / 2 for n in range(13)]
    groups = by_difficulty(problems, scores)
    assert {name: n for name, (n, _) in groups.items()} == {
        "easy": 6, "medium": 3, "hard": 4}
    assert weighted_mean(groups) == pytest.approx(sum(scores) / 13)
    assert by_difficulty(problems[:1], [1.0]) == {"easy": (1, 1.0)}


def test_a_window_holds_its_first_and_last_day():
    days = ("2023-11-30", "2023-12-01", "2024-06-01", "2024-06-02")
    problems = [Contest(day, "", (), day, 1, "p") for day in days]
    kept = window(problems, "2023-12-01", "2024-06-01")
    assert [one.task_id for one in kept] == list(days[1:3])


def test_both_forms_are_read(tmp_path):
    path = tmp_path / "problems.jsonl"
    path.write_text(json.dumps(OURS) + "\n" + json.dumps(THEIRS) + "\n", "utf-8")
    ours, theirs = read_tasks(path)
    assert ours == Contest("c/1", "Double n.", (("2\n", "4\n"),), "2024-02-29", 2,
                           "minicoder")
    assert theirs == Contest(
        "atcoder/abc1_a", "Double n.", (("2\n", "4\n"), ("3", "6")), "2024-03-01", 5,
        "atcoder", examples=1)
    write_tasks(path, [ours, theirs])
    assert read_tasks(path) == [ours, theirs]
    assert "Input:\n2\nOutput:\n4" in theirs.question and "3" not in theirs.question


@pytest.mark.parametrize(("record", "message"), [
    (OURS | {"date": "2024-02-30"}, "'date' must be a date, YYYY-MM-DD, found '2024-"),
    (OURS | {"date": None}, "'date' must be text, found None"),
    (OURS | {"difficulty": 6}, "'difficulty' must be 1 to 5, found 6"),
    (OURS | {"tests": [["2"]]}, "'tests' must be a list of .stdin, stdout., found"),
    (OURS | {"tests": 5}, "'tests' must be a list"),
    (OURS | {"tests": []}, "'tests' must be a list"),
    (OURS | {"platform": 3}, "'platform' must be text, found 3"),
    (THEIRS | {"difficulty": "odd"}, "must be one of easy, medium, hard, found 'odd'"),
    (THEIRS | {"private_test_cases": "eJxrYJmqhAA="}, "'private_test_cases' must be"),
])
def test_a_bad_line_is_named(tmp_path, record, message):
    path = tmp_path / "problems.jsonl"
    path.write_text("\n" + json.dumps(record), "utf-8")
    with pytest.raises(UserError, match=message) as caught:
        read_tasks(path)
    assert str(caught.value).startswith(f"{path}, line 2: ")
