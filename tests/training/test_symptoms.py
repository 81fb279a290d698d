"""What docs/training.md says goes wrong does, and goes right again with the setting it names."""

from __future__ import annotations

import math

import pytest
import torch

from helpers import symptoms
from helpers.symptoms import CROSS_ENTROPY, FOCAL, TRAININGS, Outcome, train


@pytest.fixture(scope='module')
def well() -> Outcome:
    return train()


def test_as_it_should_be(well: Outcome) -> None:
    assert well.average_precision > 0.4 and well.recall > 0.3
    assert well.last_loss < 0.5 * well.first_loss


def test_without_the_bias_prior_the_loss_starts_high_and_nothing_is_found(well: Outcome) -> None:
    outcome = train(**TRAININGS['no bias prior'])
    assert outcome.first_loss > 20 * well.first_loss
    assert outcome.recall == 0 and outcome.average_precision < 0.5 * well.average_precision


def test_a_mean_over_all_rows_leaves_everything_background() -> None:
    outcome = train(**TRAININGS['mean over all rows'])
    assert outcome.first_loss < 0.01 and outcome.recall == 0


def test_alpha_moves_the_scores_and_hardly_the_ranking(well: Outcome) -> None:
    low, high = train(**TRAININGS['alpha 0.01']), train(**TRAININGS['alpha 0.99'])
    assert low.recall < 0.1 and low.precision == 1
    assert high.recall > 0.9 and high.precision < 0.1
    for outcome in (low, high):
        assert outcome.average_precision == pytest.approx(well.average_precision, abs=0.1)


def test_clipping_keeps_the_loss_finite_and_a_lower_rate_makes_it_train(well: Outcome) -> None:
    assert math.isnan(train(**TRAININGS['lr 3']).last_loss)
    clipped = train(**TRAININGS['lr 3, clipped'])
    assert math.isfinite(clipped.last_loss)
    assert clipped.average_precision < 0.3 * well.average_precision


def test_with_adamw_focal_loss_needs_the_lower_rate_and_with_sgd_it_does_not() -> None:
    def precision(loss: dict[str, object], optimizer: str) -> float:
        return train(loss, lr=0.3, optimizer=optimizer).average_precision

    assert precision(FOCAL, 'AdamW') < 0.5 * precision(CROSS_ENTROPY, 'AdamW')
    assert precision(FOCAL, 'SGD') > 2 * precision(CROSS_ENTROPY, 'SGD')
    assert train(FOCAL, lr=0.06, optimizer='AdamW').average_precision > 0.4  # a fifth


def test_average_precision_is_that_of_scikit_learn() -> None:
    metrics = pytest.importorskip('sklearn.metrics')
    g = torch.Generator().manual_seed(0)
    scores, right = torch.rand(300, generator=g), torch.rand(300, generator=g) < 0.1
    expected = metrics.average_precision_score(right.numpy(), scores.numpy())
    assert symptoms.average_precision(scores, right) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize('kind', ['RetinaHeadX', 'FCOSHeadX'])
def test_a_box_without_width_is_no_number(kind: str) -> None:
    """RetinaNet's target is the logarithm of a side; FCOS passes over such a box."""
    pytest.importorskip('mmdet')
    from mmengine.registry import init_default_scope

    from helpers.small_heads import batch, build, losses_of

    init_default_scope('mmdet')
    features, instances = batch()
    instances[0].bboxes[0, 2] = instances[0].bboxes[0, 0]
    loss = dict(type='FocalLossX', use_sigmoid=True)
    losses = losses_of(build(kind, loss_cls=loss), features, instances)
    finite = {name: bool(value.isfinite()) for name, value in losses.items()}
    assert finite['loss_cls']
    assert finite['loss_bbox'] is (kind == 'FCOSHeadX')
