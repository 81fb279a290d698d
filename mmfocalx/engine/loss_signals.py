"""What the losses of this package do while a detector trains, for the visualisation backends."""

from __future__ import annotations

import copy
import inspect
import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmengine.dist import all_reduce
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.model import is_model_wrapper
from mmengine.registry import HOOKS
from torch import Tensor, nn

from mmfocalx.errors import check_bool, check_integer
from mmfocalx.losses import DenseClsLoss, EqualizedFocalLossX
from mmfocalx.losses.batch import TargetLike


@HOOKS.register_module()
class LossSignalsHook(Hook):
    r"""Every few iterations, show what drives each classification loss of this package.

    The scalars go to all visualisation backends, as ``loss_signals/NAME/SIGNAL``, where NAME is
    that of the module in the model, such as ``bbox_head.loss_cls``. They are taken over all
    calls of the module in one iteration (levels, decoder layers) and over all ranks:

    - ``mean_positive_quality``: mean target score, in [0, 1], of the positive entries;
    - ``positive_loss_share``: the loss of the positive entries over that of all, in [0, 1];
    - ``effective_hard_negatives``: how many negative entries make up the loss of the negatives,
      :math:`(\sum_i l_i)^2 / \sum_i l_i^2`, the effective sample size of Kish (1965,
      Survey Sampling): n if n of them share it equally and the others have none, 0 if none has
      any;
    - ``gamma_min``, ``gamma_mean``, ``gamma_max`` and ``gamma/CLASS``, only with
      :class:`~mmfocalx.losses.EqualizedFocalLossX`: its focusing exponent of each class.

    An entry is a prediction and a class; it is positive if its target score is above 0, with
    softmax only if its channel is not the last one, which stands for the background. Its loss is
    weighted, and 0 if its row is ignored or dropped by ``ohem_ratio``. What is undefined in an
    iteration, such as the quality where there are no positives, is left out of it.

    Training is the same with and without this hook. Between the sampled iterations nothing is
    computed, and nothing is attached to the model.

    Args:
        interval: number of iterations from one sample to the next, an integer >= 1.
        per_class: whether to show the exponent of every class, or only the smallest, the mean
            and the largest.

    Raises:
        TypeError, ValueError: for an argument of the wrong type or value, naming it.
    """

    def __init__(self, interval: int = 50, per_class: bool = True) -> None:
        self.interval = check_integer('interval', interval, low=1)
        self.per_class = check_bool('per_class', per_class)
        self._probes: dict[str, _Probe] = {}

    def before_train(self, runner: Any) -> None:
        self._detach()
        if not _losses(runner.model):
            print_log(
                'LossSignalsHook: the model has no classification loss of mmfocalx to show.',
                'current',
                logging.WARNING,
            )

    def before_train_iter(self, runner: Any, *args: Any, **kwargs: Any) -> None:
        if self.every_n_train_iters(runner, self.interval):
            self._probes = {name: _Probe(loss) for name, loss in _losses(runner.model).items()}

    def after_train_iter(self, runner: Any, *args: Any, **kwargs: Any) -> None:
        probes = self._detach()
        if not probes:
            return
        totals = torch.stack([probe.sums for probe in probes.values()])
        all_reduce(totals)
        classes = (getattr(runner.visualizer, 'dataset_meta', None) or {}).get('classes', ())
        scalars: dict[str, float] = {}
        for (name, probe), sums in zip(probes.items(), totals.tolist(), strict=True):
            signals = _signals(*sums)
            if probe.gamma is not None:
                signals.update(_gamma_signals(probe.gamma, classes if self.per_class else None))
            scalars.update({f'loss_signals/{name}/{key}': v for key, v in signals.items()})
        if scalars:
            runner.visualizer.add_scalars(scalars, step=runner.iter + 1)

    def after_train(self, runner: Any) -> None:
        self._detach()

    def _detach(self) -> dict[str, _Probe]:
        probes, self._probes = self._probes, {}
        for probe in probes.values():
            probe.detach()
        return probes


class _Probe:
    """A forward hook on one loss, with the sums over its calls until it is detached.

    Attributes:
        sums: (5,) float64: positives, their quality, their loss, the loss of the negatives and
            its square.
        gamma: (C,) float64 exponent at the last call, of an equalized loss only.
    """

    def __init__(self, loss: DenseClsLoss) -> None:
        self.sums = torch.zeros(5, dtype=torch.float64)
        self.gamma: Tensor | None = None
        signature = inspect.signature(loss.forward)
        equalized = [m for m in loss.modules() if isinstance(m, EqualizedFocalLossX)]

        # A function, as a copy of the model made meanwhile must not copy this object.
        def record(module: nn.Module, args: Any, kwargs: Mapping[str, Any], output: Tensor) -> None:
            call = signature.bind(*args, **kwargs).arguments
            self.sums += _sums(loss, call['pred'], call['target'], call.get('weight'))
            for one in equalized:
                self.gamma = one.class_gamma.cpu().double()

        self._handle = loss.register_forward_hook(record, with_kwargs=True)

    def detach(self) -> None:
        self._handle.remove()


@torch.no_grad()
def _sums(loss: DenseClsLoss, pred: Tensor, target: TargetLike, weight: Tensor | None) -> Tensor:
    """What one call adds to :attr:`_Probe.sums`."""
    batch = loss.check(pred, target, weight)
    x = batch.x.to(torch.promote_types(batch.x.dtype, torch.float32))
    batch = batch._replace(x=x)
    unsummed = copy.copy(loss)
    unsummed.sums_classes = False
    entries = unsummed.entries(batch)
    if loss.ohem_ratio is not None:
        summed = entries.sum(1) if loss.sums_classes else entries
        mined, _ = loss.mine(summed, batch, loss.ohem_ratio)
        entries = torch.where(mined.reshape(len(x), -1) != 0, entries, 0.0)
    scores = batch.target
    positive = scores.positive
    if batch.valid is not None:
        positive = positive & batch.valid[:, None]
    if not loss.use_sigmoid:
        background = torch.arange(x.shape[1], device=x.device) == x.shape[1] - 1
        positive = positive & ~background
    negative = torch.where(positive, 0.0, entries)
    sums = [
        positive.sum().to(x.dtype),
        torch.where(positive, scores.quality, 0.0).sum(),
        torch.where(positive, entries, 0.0).sum(),
        negative.sum(),
        negative.square().sum(),
    ]
    return torch.stack(sums).cpu().double()


def _signals(
    positives: float, quality: float, positive_loss: float, negative_loss: float, squared: float
) -> dict[str, float]:
    """The signals of the sums over an iteration, without those that are undefined."""
    signals = {}
    if positives:
        signals['mean_positive_quality'] = quality / positives
    if positive_loss + negative_loss:
        signals['positive_loss_share'] = positive_loss / (positive_loss + negative_loss)
        signals['effective_hard_negatives'] = negative_loss**2 / squared if squared else 0.0
    return {name: value for name, value in signals.items() if math.isfinite(value)}


def _gamma_signals(gamma: Tensor, classes: Sequence[str] | None) -> dict[str, float]:
    """The exponents in short, and of every class unless ``classes`` is None."""
    signals = {f'gamma_{kind}': getattr(gamma, kind)().item() for kind in ('min', 'mean', 'max')}
    if classes is not None:
        named = classes if len(classes) == len(gamma) else range(len(gamma))
        signals |= {f'gamma/{name}': g for name, g in zip(named, gamma.tolist(), strict=True)}
    return signals


def _losses(model: nn.Module) -> dict[str, DenseClsLoss]:
    """The losses of this package in a model, by name; wrappers for several ranks aside."""
    unwrapped: Any = model.module if is_model_wrapper(model) else model
    return {name: m for name, m in unwrapped.named_modules() if isinstance(m, DenseClsLoss)}
