from __future__ import annotations

from typing import Any

from mmengine.registry import MODELS
from torch import Tensor

from .batch import Target
from .checks import check_number
from .focal import FocalLossX
from .one_pass.elementary import Elementary
from .terms import alpha_factor, focal, modulation


@MODELS.register_module()
class PolyFocalLossX(FocalLossX):
    r"""Focal loss with a tunable leading term of its polynomial expansion.

    Poly-1 focal loss, Leng et al. 2022, https://arxiv.org/abs/2204.12511, its Poly-1 form:

    .. math:: \mathrm{focal}(x, y) + \epsilon \, \alpha_t (1-p_t)^{\gamma+1}

    The class balance :math:`\alpha_t` weighs both terms; as published, the equation has none. With
    ``alpha=None`` the two agree.

    Args:
        epsilon: coefficient of the extra leading term; may be negative.
        kwargs: ``gamma`` and ``alpha`` of :class:`FocalLossX`; see :class:`DenseClsLoss`.

    Raises:
        TypeError, ValueError: for an argument of the wrong type or value, naming it.

    Example:
        >>> import torch
        >>> from mmfocalx.losses import PolyFocalLossX
        >>> loss = PolyFocalLossX(gamma=2.0, alpha=None, epsilon=1.0)
        >>> loss(torch.zeros(1, 1), torch.tensor([0]))  # ln 2 / 4 + 1 / 8
        tensor(0.2983)
    """

    supports_softmax = False
    bce_settings = {'gamma': 0.0, 'alpha': None, 'epsilon': 0.0}

    def __init__(self, *, epsilon: float = 1.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.epsilon = check_number('epsilon', epsilon)

    def elementwise(self, x: Tensor, t: Target, f: Elementary) -> Tensor:
        leading = self.epsilon * modulation(x, t, f, self.gamma + 1)
        balance = alpha_factor(t.score, self.alpha)
        return focal(x, t, f, gamma=self.gamma, alpha=self.alpha) + balance * leading
