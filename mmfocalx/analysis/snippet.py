"""A config that sets what is suggested for a data set."""

from __future__ import annotations

import os
from pathlib import Path
from textwrap import wrap
from typing import Any

from mmfocalx.analysis.dataset import DatasetStudy


def snippet(study: DatasetStudy, folder: Path) -> str:
    """A config with what is suggested, to be put into ``folder``, or pasted from there."""
    lines = []
    if study.config is None:
        lines.append('# To be pasted into a config; with --config this is one that trains.')
    else:
        base = os.path.relpath(study.config.resolve(), folder.resolve())
        lines.append(f'_base_ = [{Path(base).as_posix()!r}]')
    head: list[str] = []
    init = study.targets.init_cfg if study.targets else None
    if isinstance(init, dict) and _prior_of(init) not in (None, study.prior):
        override = {**init['override'], 'bias_prob': round(study.prior, 4)}
        head.append(f'init_cfg={ {**init, "override": override}!r},')
    alpha = _alpha(study)
    names = [one.name for one in study.classes]
    head += [
        'loss_cls=dict(',
        '    _delete_=True,',
        "    type='FocalLossX',",
        f'    use_sigmoid={not study.softmax},',
        f'    gamma={study.gamma},',
        *_alpha_lines(alpha, [*names, 'background']),
        ')',
    ]
    lines += ['model = dict(', '    bbox_head=dict(']
    lines += [f'        {line}' for line in head]
    lines += ['    )', ')']
    if study.config is not None:  # a rate means nothing without its optimizer
        rate = study.rate
        lines += [f'# {line}' for line in wrap(f'Learning rate: {rate.reason}', 92)]
        lines.append(f'# optim_wrapper = dict(optimizer=dict(lr={rate.value:.3g}))')
    return '\n'.join(lines) + '\n'


def _prior_of(init: dict[str, Any]) -> float | None:
    override = init.get('override')
    return override.get('bias_prob') if isinstance(override, dict) else None


def _alpha(study: DatasetStudy) -> float | list[float] | None:
    """Of FocalLossX. With softmax, a factor of each class, the background's the last."""
    if not study.softmax:
        return study.class_alpha or study.alpha
    if study.wanted.balance == 'none':
        return None
    return [*(getattr(one, study.wanted.balance) for one in study.classes), 1.0]


def _alpha_lines(alpha: float | list[float] | None, names: list[str]) -> list[str]:
    if not isinstance(alpha, list):
        return [f'    alpha={alpha if alpha is None else round(alpha, 4)},']
    of_classes = wrap(', '.join(names[: len(alpha)]), 72)
    values = wrap(', '.join(f'{value:.4f}' for value in alpha) + ',', 72)
    return [
        *(f'    # {line}' for line in ['In the order of the classes:', *of_classes]),
        '    alpha=[',
        *(f'        {line}' for line in values),
        '    ],',
    ]
