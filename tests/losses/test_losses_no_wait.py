"""No loss reads a value on the host: everything runs on a device whose tensors have none."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from helpers.cases import CHANNELS, Case, each_case

pytestmark = pytest.mark.filterwarnings('ignore::UserWarning')
N = 12


def targets(case: Case) -> list[Any]:
    labels = torch.empty(N, dtype=torch.long, device='meta')
    dense = torch.empty(N, CHANNELS, device='meta')
    return [labels, dense] if case.softmax else [labels, dense, (labels, dense[:, 0])]


@pytest.mark.parametrize(
    'kwargs', [{}, {'ignore_index': 255}, {'activated': True}, {'ohem_ratio': 0.5}], ids=str
)
@each_case
def test_forward_and_backward_wait_for_nothing(case: Case, kwargs: dict[str, Any]) -> None:
    loss = case.build(kwargs).to('meta').train()
    weight, avg_factor = torch.empty(N, device='meta'), torch.empty((), device='meta')
    for target in targets(case):
        for reduction in ('mean', 'none'):
            pred = torch.empty(N, CHANNELS, device='meta', requires_grad=True)
            value = loss(pred, target, weight, avg_factor, reduction_override=reduction)
            value.sum().backward()
            assert pred.grad is not None and pred.grad.shape == pred.shape


def test_the_device_would_tell() -> None:
    with pytest.raises((RuntimeError, NotImplementedError)):
        bool(torch.empty((), device='meta') > 0)
