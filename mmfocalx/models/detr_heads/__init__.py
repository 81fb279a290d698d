from .multi_scale import DDQDETRHeadX, DeformableDETRHeadX, DINOHeadX
from .single_scale import ConditionalDETRHeadX, DABDETRHeadX, DETRHeadX

__all__ = [
    'ConditionalDETRHeadX',
    'DABDETRHeadX',
    'DDQDETRHeadX',
    'DETRHeadX',
    'DINOHeadX',
    'DeformableDETRHeadX',
]
