"""The sentences: right numbers, and honest when a step did not help."""

from pathlib import Path

import pytest
from show.synthetic import contents, score

from minicoder.show import findings

NOWHERE = Path("nowhere")


def files(stage: str) -> dict:
    return {name.split(".")[0]: value for name, value in contents()[stage].items()}


def plain(text: str) -> str:
    return text.replace("\xa0", " ")


def test_change_speaks_of_a_rise_only_outside_the_intervals():
    low, high = score(0.4, 0.05), score(0.6, 0.05)
    assert findings.change(low, high) == "rises by 20.0 points"
    assert findings.change(high, low) == "falls by 20.0 points"
    assert findings.change(low, score(0.44, 0.05)) == (
        "moves by +4.0 points, within its intervals")


def test_interval_stands_beside_the_value():
    assert plain(findings.interval(score(0.4386, 0.06))) == "43.9 % [37.9, 49.9]"


def test_corpus_counts_what_passes_and_names_the_hardest_rule():
    found = findings.corpus(files("corpus"), NOWHERE)
    assert found["finding"] == (
        "3,045 of 4,210 documents pass 7 rules; “exact duplicate” removes most")
    assert sum(found["shares"].values()) == pytest.approx(1)


def test_pretraining_says_fewer_or_more_than_the_compressors():
    run = files("language")
    assert "0.46 fewer than gzip -9 and 0.38 fewer than xz" in findings.compression(
        run, NOWHERE)["finding"]
    run["scores"]["bits_per_byte"]["code"] = 2.25
    assert "0.04 fewer than gzip -9 and 0.04 more than xz" in findings.compression(
        run, NOWHERE)["finding"]


def test_expert_load_is_optional():
    run = files("pretrain")
    assert "fair share" in findings.expert_load(run)["text"]
    for row in run["metrics"]:
        del row["expert_load"]
    assert findings.expert_load(run)["map"] == ""


@pytest.mark.parametrize(("fim", "says"), (
    (score(0.22, 0.05), "helps"), (score(0.11, 0.05), "makes no clear difference"),
    (score(0.01, 0.01), "hurts")))
def test_infilling_says_whether_the_suffix_helped(fim, says):
    run = files("language")
    run["scores"]["infilling"]["fim"] = fim
    found = findings.infilling(run, NOWHERE)
    assert found["finding"].startswith(f"Seeing the suffix {says}")
    assert {e["exact"] for e in found["examples"]} == {True, False}


def test_needles_count_only_beyond_the_old_window():
    run = files("language")
    found = findings.extend(run, NOWHERE)
    assert found["probes"] == 3 * 3 * 10
    assert plain(found["finding"]) == (
        "Beyond 1,024 tokens, needle recall rises by 72.2 points, "
        "from 4.4 % to 76.7 %")
    run["needle"]["after"] = run["needle"]["before"]
    assert "moves by +0.0 points" in findings.extend(run, NOWHERE)["finding"]


def test_fine_tuning_that_does_not_learn_is_told():
    run = files("sft")
    assert "falls: 2.0" in findings.sft(run, NOWHERE)["finding"]
    run["metrics"].reverse()
    for step, row in enumerate(run["metrics"]):
        row["step"] = step
    assert "does not fall" in findings.sft(run, NOWHERE)["finding"]


def test_feedback_counts_the_verdicts():
    found = findings.feedback(files("feedback"), NOWHERE)
    assert plain(found["finding"]).startswith("44.0 % of 4,096 sampled programs")
    assert found["verdicts"][0] == ("wrong answer", 1906)


@pytest.mark.parametrize(("accuracy", "says"), (
    (0.781, "beats"), (0.57, "does not clearly beat")))
def test_the_reward_model_is_compared_with_the_commoner_verdict(accuracy, says):
    run = files("reward")
    run["calibration"]["accuracy"] = accuracy
    found = findings.reward(run, NOWHERE)["finding"]
    assert f"{says} the commoner verdict" in found and "56.0" in found


def test_grpo_without_a_reference_claims_no_distance():
    run = files("grpo")
    assert "KL divergence from the SFT model" in findings.grpo(run, NOWHERE)["side"]
    for row in run["metrics"]:
        row["kl"] = 0.0
        row["groups_kept"] = 12
    found = findings.grpo(run, NOWHERE)
    assert "Groups" in found["side"] and "KL" not in found["side_chart"]


def test_grpo_draws_one_line_where_reward_is_the_verdict():
    run = files("grpo")
    assert ">reward<" in findings.grpo(run, NOWHERE)["pass_chart"]
    for row in run["metrics"]:
        row["reward"] = row["pass"] + 1e-7  # one was rounded to float32
    assert ">reward<" not in findings.grpo(run, NOWHERE)["pass_chart"]


@pytest.mark.parametrize(("sampled", "greedy", "note"), (
    (0.81, 0.91, "sharpened"), (0.81, 1.0, "more than sharpen"),
    (0.81, 0.7, "at the cost"), (0.45, 0.91, "does not show"),
    (0.2, 0.91, "does not show")))
def test_evaluation_says_what_reinforcement_did(sampled, greedy, note):
    run = files("evaluate")
    run["scores"]["rows"][2] |= {"pass@1": score(sampled, 0.03),
                                 "greedy": score(greedy, 0.02)}
    run["scores"]["rows"][1]["greedy"] = score(0.9, 0.03)
    assert note in findings.evaluate(run, NOWHERE)["note"]


def test_evaluation_of_the_base_alone():
    run = files("evaluate")
    run["scores"]["rows"] = run["scores"]["rows"][:1]
    assert findings.evaluate(run, NOWHERE)["finding"] == "256 held-out tasks"


def test_headlines_of_the_stages_that_are_there():
    stages = dict.fromkeys(contents())
    assert findings.headlines(stages) == []
    stages |= {"pack": files("pack"), "evaluate": files("evaluate")}
    tiles = findings.headlines(stages)
    assert [tile[0] for tile in tiles] == ["pack", "evaluate"]
    assert plain(tiles[1][2]) == "81.0 %"
    assert plain(tiles[1][3]) == "[77.0, 85.0]; base 1.3 %; sft 44.0 %"
