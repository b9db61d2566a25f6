"""The weight matrix of the loss."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from sifa.adaptation import adda, cycada, cyclegan, dann, masks_alone, pnp_adanet
from sifa.adaptation.loss_weights import LossWeights
from sifa.adaptation.sifa_terms import TERMS as COLUMNS
from sifa.utils.errors import InputError
from sifa.utils.keys import LossTerms

RAMP = [0, 0, 0, 0, 0, 0.033, 0.067, 0.1]  # w_p, a number an epoch
EXPECTED = {1: 0, 2: 0, 3: 0, 4: 0, 5: 0, 6: 0.033, 7: 0.067, 8: 0.1, 9: 0.1, 40: 0.1, 1000: 0.1}


def sifa_weights(columns: Mapping[str, Mapping[str, Any]]) -> LossWeights:
    return LossWeights(columns, COLUMNS)


TERMS = {
    LossTerms.SEGMENTATION: torch.tensor(2.0, dtype=torch.float64),
    LossTerms.SOURCE_CYCLE: torch.tensor(3.0, dtype=torch.float64),
    LossTerms.PREDICTION_ADVERSARIAL: torch.tensor(5.0, dtype=torch.float64),
}


@pytest.mark.parametrize(("epoch", "weight"), EXPECTED.items())
def test_the_weight_of_eq_4_is_zero_for_five_epochs_then_rises_and_holds(epoch: int, weight: float) -> None:
    weights = sifa_weights({"segmenter": {"prediction_adversarial": RAMP}})
    assert weights.at("segmenter", LossTerms.PREDICTION_ADVERSARIAL, epoch) == weight


@pytest.mark.parametrize("epoch", [1, 2, 500])
def test_a_plain_number_holds_in_every_epoch(epoch: int) -> None:
    weights = sifa_weights({"source_decoder": {"source_cycle": 10}})
    assert weights.at("source_decoder", LossTerms.SOURCE_CYCLE, epoch) == 10


def test_a_missing_term_and_a_missing_module_weigh_nothing() -> None:
    weights = sifa_weights({"segmenter": {"segmentation": 1}})
    assert weights.at("segmenter", LossTerms.SOURCE_CYCLE, 1) == 0
    assert weights.at("source_decoder", LossTerms.SEGMENTATION, 1) == 0


@pytest.mark.parametrize("module", COLUMNS)
@pytest.mark.parametrize("term", LossTerms)
def test_a_module_takes_the_terms_that_it_can_minimize_and_no_other(module: str, term: LossTerms) -> None:
    columns = {module: {str(term.value): 0.5}}
    if term in COLUMNS[module]:
        assert sifa_weights(columns).at(module, term, 1) == 0.5
    else:
        with pytest.raises(InputError, match=f"loss_weights#{module} names '{term.value}': choose from"):
            sifa_weights(columns)


def test_every_term_of_the_glossary_is_some_modules_of_some_method() -> None:
    matrices = [COLUMNS, *(method.TERMS for method in (dann, adda, cyclegan, cycada, pnp_adanet, masks_alone))]
    assert {term for columns in matrices for terms in columns.values() for term in terms} == set(LossTerms)


@pytest.mark.parametrize(("epoch", "used"), [(1, False), (2, True), (9, True)])
def test_terms_are_used_in_the_epochs_in_which_one_has_a_weight(epoch: int, used: bool) -> None:
    weights = sifa_weights({"segmenter": {"segmentation": [0, 1], "source_cycle": 0}})
    assert weights.any_used("segmenter", [LossTerms.SOURCE_CYCLE, LossTerms.SEGMENTATION], epoch) == used
    assert not weights.any_used("segmenter", [LossTerms.SOURCE_CYCLE], epoch)


@pytest.mark.parametrize("epoch", [1, 6, 8])
def test_the_total_is_the_weighted_sum_of_the_terms(epoch: int) -> None:
    column: dict[str, float | list[float]] = {"segmentation": 1, "source_cycle": 0.1, "prediction_adversarial": RAMP}
    total = sifa_weights({"segmenter": column}).total("segmenter", TERMS, epoch)
    assert total.shape == ()
    assert total.item() == pytest.approx(1 * 2 + 0.1 * 3 + EXPECTED[epoch] * 5, rel=1e-12)


def test_the_total_belongs_to_the_column_of_its_module() -> None:
    weights = sifa_weights({"segmenter": {"segmentation": 7}, "source_decoder": {"source_cycle": 11}})
    assert weights.total("segmenter", TERMS, 1).item() == 14
    assert weights.total("source_decoder", TERMS, 1).item() == 33


def test_the_gradient_of_the_total_is_the_weight_of_each_term() -> None:
    terms = {term: loss.clone().requires_grad_() for term, loss in TERMS.items()}
    sifa_weights({"segmenter": {"segmentation": 4, "source_cycle": 0}}).total("segmenter", terms, 1).backward()
    segmentation, source_cycle = terms[LossTerms.SEGMENTATION].grad, terms[LossTerms.SOURCE_CYCLE].grad
    assert segmentation is not None
    assert segmentation.item() == 4
    assert source_cycle is None, "a term of weight 0 should cost no backward pass"


def test_a_term_of_weight_zero_cannot_spoil_the_total() -> None:
    terms = TERMS | {LossTerms.SOURCE_CYCLE: torch.tensor(float("nan"), dtype=torch.float64)}
    assert sifa_weights({"segmenter": {"segmentation": 1, "source_cycle": 0}}).total("segmenter", terms, 1).item() == 2


def test_an_unknown_term_is_refused_in_a_sentence_that_names_it_and_the_choices() -> None:
    with pytest.raises(InputError, match="loss_weights#segmenter names 'segmentaton'") as refusal:
        sifa_weights({"target_generator": {"source_cycle": 10}, "segmenter": {"segmentaton": 1}})
    sentence = str(refusal.value)
    assert all(str(term.value) in sentence for term in COLUMNS["segmenter"])
    assert sentence.endswith(".")
    assert "\n" not in sentence


def test_an_empty_list_is_refused() -> None:
    with pytest.raises(
        InputError, match=r"loss_weights#segmenter#prediction_adversarial is .*: give a number, or a list"
    ):
        sifa_weights({"segmenter": {"prediction_adversarial": []}})


@pytest.mark.parametrize("columns", [{}, {"segmenter": {}}, {"segmenter": {"segmentation": 0, "source_cycle": 0.0}}])
def test_a_column_without_any_weight_is_refused(columns: dict[str, dict[str, float]]) -> None:
    with pytest.raises(InputError, match="loss_weights#segmenter gives weight 0 to every term"):
        sifa_weights(columns).total("segmenter", TERMS, 1)


def test_a_column_that_weighs_nothing_in_this_epoch_is_refused_and_works_in_a_later_one() -> None:
    weights = sifa_weights({"segmenter": {"prediction_adversarial": RAMP}})
    with pytest.raises(InputError, match="nothing is left to minimize"):
        weights.total("segmenter", TERMS, 5)
    assert weights.total("segmenter", TERMS, 8).item() == pytest.approx(0.5)


def test_weights_that_follow_a_schedule_are_listed_by_module_and_term_and_constant_ones_are_not() -> None:
    weights = sifa_weights({"segmenter": {"segmentation": 1, "prediction_adversarial": RAMP, "self_training": [0, 1]}})
    scheduled = {name: float(weight) for name, weight in weights.scheduled(6).items()}
    assert scheduled == pytest.approx(
        {"segmenter_prediction_adversarial_weight": 0.033, "segmenter_self_training_weight": 1}
    )


def test_the_terms_belong_to_the_method_that_hands_them_in() -> None:
    other = {"encoder": [LossTerms.SEGMENTATION]}
    assert LossWeights({"encoder": {"segmentation": 2}}, other).at("encoder", LossTerms.SEGMENTATION, 1) == 2
    with pytest.raises(InputError, match="loss_weights names 'segmenter': choose from encoder"):
        LossWeights({"segmenter": {"segmentation": 2}}, other)
