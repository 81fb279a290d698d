"""How good the scores of detections are; needs mmengine, hotcoco and scipy."""

from mmfocalx import compat

compat.require('mmengine')

from mmfocalx.evaluation.metric import ScoreQualityMetric  # noqa: E402

__all__ = ['ScoreQualityMetric']
