"""Classification losses behind one calling convention; needs only torch and mmengine."""

from .base import DenseClsLoss
from .focal import FocalLossX
from .quality_focal import QualityFocalLossX
from .varifocal import VarifocalLossX

__all__ = ['DenseClsLoss', 'FocalLossX', 'QualityFocalLossX', 'VarifocalLossX']
