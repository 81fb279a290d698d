"""Settings that train, but hardly as meant, are warned of."""

from __future__ import annotations

import pytest
from mmengine.logging import MMLogger

pytest.importorskip('mmdet')

from mmengine.registry import MODELS, init_default_scope

import mmfocalx  # noqa: F401  (registers)
from helpers.small_heads import FOCAL, HEADS, KINDS, VARIFOCAL

RANK_SORT = dict(type='RankSortLossX', use_sigmoid=True)


@pytest.fixture(autouse=True)
def _scope():
    init_default_scope('mmdet')


def warnings_of(caplog, kind, **settings):
    logger = MMLogger.get_current_instance()
    logger.setLevel('WARNING')
    logger.addHandler(caplog.handler)
    try:
        MODELS.build({'type': kind, **HEADS[kind.removesuffix('X')], **settings})
    finally:
        logger.removeHandler(caplog.handler)
    found = [setting for setting in ('score_thr=', 'quality=') if setting in caplog.text]
    caplog.clear()
    return found


@pytest.mark.parametrize('kind', KINDS)
def test_a_threshold_for_scores_without_a_level(caplog, kind):
    at_005 = dict(test_cfg=dict(score_thr=0.05))
    assert warnings_of(caplog, kind, loss_cls=RANK_SORT, **at_005) == ['score_thr=']
    assert not warnings_of(caplog, kind, loss_cls=RANK_SORT, test_cfg=dict(score_thr=0.0))
    none = dict(test_cfg=dict(score_thr=None))  # which mmdet cannot compare scores with
    assert warnings_of(caplog, kind, loss_cls=RANK_SORT, **none) == ['score_thr=']
    assert not warnings_of(caplog, kind, loss_cls=RANK_SORT)
    assert not warnings_of(caplog, kind, loss_cls=RANK_SORT, test_cfg=dict(nms_pre=1000))
    assert not warnings_of(caplog, kind, loss_cls=VARIFOCAL, **at_005)


@pytest.mark.parametrize('kind', KINDS)
def test_a_loss_of_qualities_without_any(caplog, kind):
    assert warnings_of(caplog, kind, loss_cls=VARIFOCAL, quality='none') == ['quality=']
    assert not warnings_of(caplog, kind, loss_cls=VARIFOCAL, quality='giou')
    assert not warnings_of(caplog, kind, loss_cls=FOCAL, quality='none')
