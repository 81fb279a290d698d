from .fcos_head import FCOSHeadX
from .retina_head import RetinaHeadX

__all__ = ['FCOSHeadX', 'RetinaHeadX']
