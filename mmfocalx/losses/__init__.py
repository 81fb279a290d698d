"""Losses for dense detectors behind one calling convention; needs only torch and mmengine."""

from .asymmetric import AsymmetricLossX
from .base import DenseClsLoss
from .boxes import FocalEIoULossX
from .correlation import CorrelationLossX
from .equalized_focal import EqualizedFocalLossX
from .focal import FocalLossX
from .iou_aware_bce import IABCELossX
from .masks import FocalDiceLossX
from .matchability_aware import MALossX
from .poly_focal import PolyFocalLossX
from .position_supervised import PositionSupervisedLossX
from .quality_focal import QualityFocalLossX
from .rank_sort import RankSortLossX
from .slide import SlideLossX
from .varifocal import VarifocalLossX

__all__ = [
    'AsymmetricLossX',
    'CorrelationLossX',
    'DenseClsLoss',
    'EqualizedFocalLossX',
    'FocalDiceLossX',
    'FocalEIoULossX',
    'FocalLossX',
    'IABCELossX',
    'MALossX',
    'PolyFocalLossX',
    'PositionSupervisedLossX',
    'QualityFocalLossX',
    'RankSortLossX',
    'SlideLossX',
    'VarifocalLossX',
]
