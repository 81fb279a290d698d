from __future__ import annotations

from typing import Any

import torch
from mmengine.registry import MODELS
from torch import Tensor

from .base import DenseClsLoss
from .batch import Target
from .checks import check_bool, check_number
from .one_pass.elementary import Elementary


@MODELS.register_module()
class AsymmetricLossX(DenseClsLoss):
    r"""Positives and negatives focus apart, and very easy negatives are dropped.

    Asymmetric loss, Ridnik et al. 2021, https://arxiv.org/abs/2009.14119, eq. 7:

    .. math::
        -y (1-p)^{\gamma_+} \log p - (1-y) m^{\gamma_-} \log(1-m), \quad m = \max(p - c, 0)

    Of soft targets both terms count, each with its own focusing factor.

    Args:
        gamma_pos: focusing exponent >= 0 of positives.
        gamma_neg: focusing exponent >= 0 of negatives.
        clip: probability c in [0, 1) by which negatives are shifted down.
        detach: whether no gradient passes through the focusing factors :math:`(1-p)^{\gamma_+}`
            and :math:`m^{\gamma_-}`, as in the authors' code by default
            (``disable_torch_grad_focal_loss``); the equation as published has it pass.
        kwargs: see :class:`DenseClsLoss`.

    Raises:
        TypeError, ValueError: for an argument of the wrong type or value, naming it.

    Example:
        >>> import torch
        >>> from mmfocalx.losses import AsymmetricLossX
        >>> loss = AsymmetricLossX()
        >>> loss(torch.zeros(2, 1), torch.tensor([0, 1]), reduction_override='none')
        tensor([[0.3466],
                [0.0245]])
    """

    bce_settings = {'gamma_pos': 0.0, 'gamma_neg': 0.0, 'clip': 0.0}

    def __init__(
        self,
        *,
        gamma_pos: float = 1.0,
        gamma_neg: float = 4.0,
        clip: float = 0.05,
        detach: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.gamma_pos = check_number('gamma_pos', gamma_pos, low=0)
        self.gamma_neg = check_number('gamma_neg', gamma_neg, low=0)
        self.clip = check_number('clip', clip, low=0, below=1)
        self.detach = check_bool('detach', detach)

    def elementwise(self, x: Tensor, t: Target, f: Elementary) -> Tensor:
        p, not_p = f.sigmoid(x), f.not_sigmoid(x)
        positive = -self._focus(f, not_p, self.gamma_pos) * f.log_sigmoid(x)
        if self.clip == 0:
            negative = -self._focus(f, p, self.gamma_neg) * f.log_not_sigmoid(x)
        else:
            hard = p > self.clip
            shifted = torch.where(hard, p - self.clip, 0.0)
            log_miss = torch.where(hard, f.log_not_sigmoid_plus(x, not_p, self.clip), 0.0)
            negative = -self._focus(f, shifted, self.gamma_neg) * log_miss
        return t.score * positive + (1 - t.score) * negative

    def _focus(self, f: Elementary, p: Tensor, gamma: float) -> Tensor:
        return f.power(p.detach() if self.detach else p, gamma)
