from .atss_head import ATSSHeadX
from .fcos_head import FCOSHeadX
from .retina_head import RetinaHeadX

__all__ = ['ATSSHeadX', 'FCOSHeadX', 'RetinaHeadX']
