"""Models that register in mmdet's scope; needs mmcv and mmdet."""

from mmfocalx import compat

compat.require('mmdet')

from .backbones import EfficientNetLite  # noqa: E402
from .dense_heads import (  # noqa: E402
    ATSSHeadX,
    FCOSHeadX,
    FoveaHeadX,
    RepPointsHeadX,
    RetinaHeadX,
)
from .detr_heads import (  # noqa: E402
    ConditionalDETRHeadX,
    DABDETRHeadX,
    DDQDETRHeadX,
    DeformableDETRHeadX,
    DETRHeadX,
    DINOHeadX,
)

__all__ = [
    'ATSSHeadX',
    'ConditionalDETRHeadX',
    'DABDETRHeadX',
    'DDQDETRHeadX',
    'DETRHeadX',
    'DINOHeadX',
    'DeformableDETRHeadX',
    'EfficientNetLite',
    'FCOSHeadX',
    'FoveaHeadX',
    'RepPointsHeadX',
    'RetinaHeadX',
]
