"""A classifier of whole images, for any backbone and any loss of a config."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.model import BaseModel
from mmengine.registry import MODELS
from mmengine.structures import BaseDataElement
from torch import Tensor, nn

from mmfocalx.errors import check_bool, check_integer, wrong


@MODELS.register_module()
class ImageClassifierX(BaseModel):
    """A backbone, the mean over its last map, one linear layer and a loss.

    Scores are the softmax of the logits, or the sigmoid of each if the loss is one of sigmoids
    (``use_sigmoid=True``) or there is one logit only.

    Args:
        backbone: Config of a model whose output, or the last one of several, is ``(B, K, H, W)``
            or ``(B, K)``.
        in_channels: K.
        num_classes: Number of classes, background included; at least 2.
        loss_cls: Config of a loss of ``(B, num_classes)`` logits and ``(B,)`` labels.
        one_logit: Whether two classes share one logit, that of class 1; the loss is then called
            with ``(B,)`` logits and ``(B,)`` targets that are 0 or 1.
        data_preprocessor: Config of MMEngine's preprocessor.
        init_cfg: Config of the initialisation.

    Raises:
        TypeError, ValueError: for an argument of the wrong type or value, naming it.
    """

    def __init__(
        self,
        backbone: dict[str, Any],
        in_channels: int,
        num_classes: int,
        loss_cls: dict[str, Any],
        one_logit: bool = False,
        data_preprocessor: dict[str, Any] | None = None,
        init_cfg: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(data_preprocessor, init_cfg)
        self.in_channels = check_integer('in_channels', in_channels, low=1)
        self.num_classes = check_integer('num_classes', num_classes, low=2)
        self.one_logit = check_bool('one_logit', one_logit)
        if one_logit and num_classes != 2:
            wrong('num_classes', '2 with one_logit=True', num_classes)
        self.backbone = MODELS.build(backbone)
        self.linear = nn.Linear(in_channels, 1 if one_logit else num_classes)
        self.loss_cls = MODELS.build(loss_cls)
        if getattr(self.loss_cls, 'activated', False):
            wrong('loss_cls.activated', 'False for logits, which the classifier gives', True)
        takes_dense = isinstance(self.loss_cls, nn.BCEWithLogitsLoss)
        self.dense_targets = one_logit or takes_dense
        self.use_sigmoid = bool(getattr(self.loss_cls, 'use_sigmoid', takes_dense))
        if one_logit and not self.use_sigmoid:
            wrong('loss_cls', 'a sigmoid loss with one_logit=True', loss_cls)

    def forward(
        self,
        inputs: Tensor,
        data_samples: Sequence[BaseDataElement] | None = None,
        mode: str = 'tensor',
    ) -> Any:
        """MMEngine's forward.

        Args:
            inputs: ``(B, 3, H, W)`` images.
            data_samples: What :class:`PackImageAndLabel` gives, one for each image; needed in the
                modes 'loss' and 'predict'.
            mode: 'tensor', 'loss' or 'predict'.

        Returns:
            The ``(B, num_classes)`` logits, or ``(B,)`` with one logit; or ``{'loss_cls': loss}``;
            or the data samples with ``pred_scores``, ``(num_classes,)``, and ``pred_label``, 0-d.

        Raises:
            ValueError: for another mode, features of another width than ``in_channels``, or a
                label that is no class.
        """
        logits = self.linear(self.features(inputs))
        if self.one_logit:
            logits = logits[:, 0]
        if mode == 'tensor':
            return logits
        samples = list(data_samples or ())
        if len(samples) != len(inputs):
            wrong('data_samples', f'one for each of {len(inputs)} images', len(samples))
        if mode == 'loss':
            return {'loss_cls': self.loss_cls(logits, self._targets(samples, logits))}
        if mode != 'predict':
            wrong('mode', "one of 'tensor', 'loss' and 'predict'", mode)
        for sample, scores in zip(samples, self._scores(logits), strict=True):
            sample.set_data({'pred_scores': scores, 'pred_label': scores.argmax()})
        return samples

    def features(self, inputs: Tensor) -> Tensor:
        """The features of the images, ``(B, in_channels)``."""
        out = self.backbone(inputs)
        features = out[-1] if isinstance(out, (tuple, list)) else out
        if features.ndim == 4:
            features = features.mean(dim=(2, 3))
        if features.ndim != 2 or features.shape[1] != self.in_channels:
            expected = f'that of the backbone, whose features are {tuple(features.shape)}'
            wrong('in_channels', expected, self.in_channels)
        return features

    def _targets(self, samples: Sequence[BaseDataElement], logits: Tensor) -> Tensor:
        labels = [sample.gt_label for sample in samples]
        if not all(0 <= label < self.num_classes for label in labels):
            wrong('num_classes', f'more than the label {max(labels)}', self.num_classes)
        targets = torch.tensor(labels, device=logits.device)
        if not self.dense_targets:
            return targets
        if not self.one_logit:
            targets = nn.functional.one_hot(targets, self.num_classes)
        return targets.to(logits.dtype)

    def _scores(self, logits: Tensor) -> Tensor:
        logits = logits.float()
        if self.one_logit:
            return torch.stack([(-logits).sigmoid(), logits.sigmoid()], dim=1)
        return logits.sigmoid() if self.use_sigmoid else logits.softmax(dim=1)
