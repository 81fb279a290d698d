"""What the pass knows of a loss."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from typing import Protocol

from torch import Tensor
from torch.nn import Parameter

from ..batch import Batch
from .elementary import Elementary


class Summable(Protocol):
    """A loss whose entries are computed row by row, and summed."""

    fused: bool | str

    def entries(self, batch: Batch, f: Elementary) -> Tensor:
        """The weighted loss of every entry: (N, C), or (N,) where classes are summed."""

    def settings(self) -> tuple[Hashable, ...]:
        """What makes one pass different from another."""

    def with_state_of_now(self) -> Summable:
        """The loss, or a copy that later updates of its state do not reach."""

    def parameters(self) -> Iterator[Parameter]:
        """What could be trained beside the predictions."""

    def keeps_gradient_statistics(self, batch: Batch) -> bool:
        """Whether the two methods below are to be called in this forward."""

    def gradient_statistics(self, batch: Batch, gradient: Tensor) -> Tensor:
        """What the state takes of the gradient of the loss by the predictions, (N, C)."""

    def update_gradient_statistics(self, statistics: Tensor) -> None:
        """Adds that to the state."""
