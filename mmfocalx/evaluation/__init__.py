"""How good the scores of detections are; needs mmengine and hotcoco."""

from mmfocalx import compat

compat.require('mmengine')

from mmfocalx.evaluation.metric import ScoreQualityMetric  # noqa: E402

__all__ = ['ScoreQualityMetric']
