from .atss_head import ATSSHeadX
from .fcos_head import FCOSHeadX
from .fovea_head import FoveaHeadX
from .reppoints_head import RepPointsHeadX
from .retina_head import RetinaHeadX

__all__ = ['ATSSHeadX', 'FCOSHeadX', 'FoveaHeadX', 'RepPointsHeadX', 'RetinaHeadX']
