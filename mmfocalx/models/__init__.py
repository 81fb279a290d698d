"""Models that register in mmdet's scope; needs mmcv and mmdet."""

from mmfocalx import compat

compat.require('mmdet')

from .dense_heads import ATSSHeadX, FCOSHeadX, RetinaHeadX  # noqa: E402

__all__ = ['ATSSHeadX', 'FCOSHeadX', 'RetinaHeadX']
