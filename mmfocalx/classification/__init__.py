"""Classification of whole images: a classifier, its data and its metric, on MMEngine alone.

The metric also needs torchmetrics, and the embedded data scikit-learn.
"""

from mmfocalx import compat

compat.require('mmengine')

from mmfocalx.classification.classifier import ImageClassifierX  # noqa: E402
from mmfocalx.classification.dataset import (  # noqa: E402
    ImageFolderDataset,
    ImbalancedDigits,
    PackImageAndLabel,
)
from mmfocalx.classification.metric import ClassificationMetric  # noqa: E402

__all__ = [
    'ClassificationMetric',
    'ImageClassifierX',
    'ImageFolderDataset',
    'ImbalancedDigits',
    'PackImageAndLabel',
]
