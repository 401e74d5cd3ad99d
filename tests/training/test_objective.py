"""The loss of pre-training: parts of a step, kinds of tokens, balance, documents."""

import math
from dataclasses import replace

import oracles
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from miniatures import FULL, LITE, random_model, random_tokens
from torch.testing import assert_close

from minicoder.errors import UserError
from minicoder.model.balance import Balance, Dropping
from minicoder.training.loop import balanced_loss
from minicoder.training.objective import Objective, in_fim

BOS, FIM = 100, 99
ALL = Balance(0.01, 0.05, 0.02, 4, 2)
EXPERT = Balance(0.01, 0.0, 0.0, 1, 1)


def rows(count=4, length=21):
    found = random_tokens(LITE, count, length) % FIM
    found[:, 0] = found[:2, 9] = BOS
    found[:2, 10] = found[3, 1] = FIM
    return found


def objective(balance=EXPERT, config=LITE, **more):
    return Objective(random_model(config).train(), balance, BOS, FIM, **more)


def gradients(found, tokens):
    """The loss, all gradients as they lie there after `backward`, and the note."""
    found.model.zero_grad()
    loss, noted = found(tokens)
    loss.backward()
    return loss.detach(), [p.grad.clone() for p in found.model.parameters()], noted


def test_plainly_it_is_the_loop_s_balanced_loss_to_the_bit():
    found, tokens = objective(), rows()
    loss, noted = found(tokens)
    wanted, known = balanced_loss(found.model, tokens[:, :-1], tokens[:, 1:], 0.01)
    assert loss == wanted
    for name in ("language_loss", "tokens", "expert_load"):
        assert noted[name] == known[name]
    assert noted["balance_loss"] == pytest.approx(known["balance_loss"])


@pytest.mark.parametrize("parts", [2, 4])
@pytest.mark.parametrize("documents", [False, True])
@pytest.mark.parametrize("config", [LITE, FULL], ids=["lite", "full"])
def test_parts_give_the_gradient_of_the_whole(parts, documents, config):
    ways = dict(config=config, documents=documents)
    whole, wanted, noted = gradients(objective(ALL, **ways), rows())
    loss, found, same = gradients(objective(ALL, parts=parts, **ways), rows())
    assert_close(loss, whole, rtol=1e-12, atol=1e-12)
    for one, other in zip(found, wanted, strict=True):
        assert_close(one, other, rtol=1e-10, atol=1e-12)
    assert same.keys() == noted.keys() and same["tokens"] == 80
    for name in noted:
        assert torch.tensor(same[name]).allclose(torch.tensor(noted[name]), atol=1e-4)


def test_the_three_balance_losses_are_those_of_the_oracle():
    found, tokens, inputs = objective(ALL), rows(), []
    for block in found.model.model.layers[1:]:
        block.mlp.gate.register_forward_hook(
            lambda gate, x, _: inputs.append((gate, x[0])))
    loss, noted = found(tokens)
    wanted = torch.tensor([[float(v) for v in oracles.balance_losses(
        gate, x.view(4, 20, -1), 4, 2)] for gate, x in inputs])
    names = ("balance_loss", "device_balance_loss", "communication_balance_loss")
    assert [noted[n] for n in names] == pytest.approx(wanted.mean(0).tolist(), rel=1e-5)
    factors = torch.tensor([0.01, 0.05, 0.02])
    assert loss.item() == pytest.approx(
        noted["language_loss"] + (wanted.sum(0) @ factors).item(), rel=1e-6)


def test_next_tokens_and_infilling_are_told_apart():
    found, tokens = objective(), rows()
    _, noted = found(tokens)
    logits = found.model(tokens[:, :-1]).log_softmax(-1)
    loss = -logits.gather(2, tokens[:, 1:, None]).squeeze(2)
    # targets 8 .. 19 of rows 0 and 1 are a piece that begins with BOS, FIM; in row 3
    # the whole row is one
    fim = torch.cat((loss[:2, 8:].flatten(), loss[3]))
    ntp = torch.cat((loss[:2, :8].flatten(), loss[2]))
    assert noted["fim_loss"] == pytest.approx(fim.mean().item())
    assert noted["ntp_loss"] == pytest.approx(ntp.mean().item())
    _, noted = found(tokens[2:3])
    assert "fim_loss" not in noted and noted["ntp_loss"] == noted["language_loss"]


@given(st.lists(st.lists(st.integers(97, BOS), min_size=12, max_size=12), min_size=1,
                max_size=4))
def test_pieces_of_fim_are_found_as_by_reading(lines):
    def read(line):
        inside, marks = False, []
        for place, token in enumerate(line):
            if token == BOS:
                inside = line[place + 1:place + 2] == [FIM]
            marks.append(inside)
        return marks

    assert in_fim(torch.tensor(lines), BOS, FIM).tolist() == [read(x) for x in lines]


def test_what_routers_do_is_noted_by_layer():
    found, seen = objective(), []
    _, noted = found(rows())
    found.model.model(rows()[:, :-1], seen)
    for layer, routing in enumerate(seen):
        entropy = sum(-p * math.log(p) for p in routing.scores.flatten().tolist()) / 80
        assert noted["router_entropy"][layer] == pytest.approx(entropy, abs=1e-4)
        counts = torch.bincount(routing.experts.flatten(), minlength=8)
        assert noted["max_over_mean"][layer] == pytest.approx(
            (counts.max() / counts.double().mean()).item(), abs=1e-4)
        assert noted["expert_load"][layer] == pytest.approx(
            (counts / 240).tolist(), abs=1e-4)
    assert "router_dropped" not in noted


@pytest.mark.parametrize("capacity, spared", [(0.5, 0.0), (0.5, 1.0), (100.0, 0.0)])
@pytest.mark.parametrize("parts", [1, 2])
def test_dropping_is_done_while_training_and_noted(capacity, spared, parts):
    found = objective(ALL, parts=parts, dropping=Dropping(4, capacity, spared))
    loss, noted = found(rows())
    plain, _ = objective(ALL)(rows())
    assert len(noted["router_dropped"]) == 2
    if capacity == 0.5 and not spared:  # half of the room, or more where it is uneven
        assert all(0.5 <= share < 0.9 for share in noted["router_dropped"])
        assert abs(loss.item() - plain.item()) > 1e-6
    else:
        assert noted["router_dropped"] == [0.0, 0.0]
        assert loss.item() == pytest.approx(plain.item(), rel=1e-12)
    found.model.eval()
    kept, _ = balanced_loss(found.model, rows()[:, :-1], rows()[:, 1:], 0.01)
    wanted, _ = balanced_loss(objective().model, rows()[:, :-1], rows()[:, 1:], 0.01)
    assert kept == wanted


def test_documents_do_not_see_each_other():
    found, tokens = objective(documents=True), rows()
    other = tokens.clone()
    other[0, 1:9] = (other[0, 1:9] + 7) % FIM   # the document before another one

    def of_last(tokens):
        inputs = tokens[:, :-1]
        return found.reader(inputs)(inputs, None)[0, 9:]

    assert_close(of_last(tokens), of_last(other), rtol=0, atol=1e-12)
    found.documents = False
    assert not torch.allclose(of_last(tokens), of_last(other), atol=1e-6)


def test_a_model_without_experts_has_nothing_to_balance():
    dense = replace(LITE, n_routed_experts=None, n_shared_experts=None,
                    first_k_dense_replace=3)
    loss, noted = objective(ALL, dense)(rows())
    assert loss.item() == pytest.approx(noted["language_loss"])
    assert noted.keys() == {"tokens", "language_loss", "ntp_loss", "fim_loss"}


def test_devices_that_experts_cannot_be_dealt_out_to_are_refused():
    with pytest.raises(UserError, match="--devices 3 must divide the 8 experts"):
        objective(Balance(0.0, 0.0, 0.0, 3, 1))


@given(st.integers(1, 6))
@settings(max_examples=6)
def test_a_step_of_one_row_or_many(count):
    loss, noted = objective(parts=count)(rows()[:1].expand(count, -1))
    assert loss.item() == pytest.approx(objective()(rows()[:1])[0].item())
    assert noted["tokens"] == 20 * count
