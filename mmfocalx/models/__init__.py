"""Models that register in mmdet's scope; needs mmcv and mmdet."""

from .dense_heads import FCOSHeadX, RetinaHeadX

__all__ = ['FCOSHeadX', 'RetinaHeadX']
