from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import torch
from mmdet.models.task_modules.prior_generators import anchor_inside_flags
from mmdet.structures.bbox import cat_boxes, get_box_tensor
from torch import Tensor

from mmfocalx.errors import wrong

from .boxes import columns_and_area
from .max_iou import OUTSIDE


class Kept:
    """The latest values by their keys; a copy of it, also a pickled one, is empty."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._values: OrderedDict[Hashable, Any] = OrderedDict()

    def get(self, key: Hashable, make: Callable[[], Any]) -> Any:
        if key not in self._values:
            self._values[key] = make()
            if len(self._values) > self.limit:
                self._values.popitem(last=False)
        self._values.move_to_end(key)
        return self._values[key]

    def __len__(self) -> int:
        return len(self._values)

    def __reduce__(self) -> tuple[type[Kept], tuple[int]]:
        return Kept, (self.limit,)


class KeptPriors:
    """Anchors by feature sizes, and which lie outside an image by its shape, between calls.

    They are made on the CPU, so that their checks make no host wait for a GPU.

    Args:
        sizes: of how many sizes of a batch the anchors are kept.
        shapes: of how many shapes of images the flags are kept.
    """

    def __init__(self, sizes: int = 8, shapes: int = 64) -> None:
        self._priors = Kept(sizes)
        self._outside = Kept(shapes)
        self._generator: Any = None

    def priors(
        self, generator: Any, sizes: Sequence[torch.Size], device: torch.device
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The anchors of all levels, (A, 4), and their columns and areas, (A,) each."""
        if generator is not self._generator:
            self.__init__(self._priors.limit, self._outside.limit)  # type: ignore[misc]
            self._generator = generator

        def make() -> tuple[Tensor, tuple[Tensor, ...]]:
            boxes = to(self._on_host(sizes), device)
            return boxes, columns_and_area(boxes)

        made: tuple[Tensor, tuple[Tensor, ...]] = self._priors.get((*sizes, device), make)
        return made

    def outside(
        self,
        sizes: Sequence[torch.Size],
        device: torch.device,
        meta: dict[str, Any],
        allowed_border: float,
    ) -> Tensor | None:
        """(A,) OUTSIDE for the anchors outside an image, else 0; None if none is outside.

        Raises:
            ValueError: if all are.
        """
        bordered = allowed_border >= 0
        img_shape = tuple(meta['img_shape'][:2])
        pad_shape = tuple(meta['pad_shape'][:2])

        def make() -> Tensor | None:
            priors = self._on_host(sizes) if bordered else None
            valid = torch.cat(self._generator.valid_flags(sizes, pad_shape, 'cpu'))
            return penalty(anchor_inside_flags(priors, valid, img_shape, allowed_border), device)

        key = (*sizes, device, pad_shape, bordered and (img_shape, allowed_border))
        kept: Tensor | None = self._outside.get(key, make)
        return kept

    def _on_host(self, sizes: Sequence[torch.Size]) -> Tensor:
        levels = self._generator.grid_priors(sizes, device='cpu')
        boxes: Tensor = get_box_tensor(cat_boxes(levels))
        return boxes


def penalty(inside: Tensor, device: torch.device) -> Tensor | None:
    """(A,) OUTSIDE where a flag is False, else 0; None if all are True. Reads the flags.

    Raises:
        ValueError: if none is True.
    """
    if inside.all():
        return None
    if not inside.any():
        wrong(
            'allowed_border',
            'such that an anchor lies within it around the image',
            'one that leaves none',
            hint='Check the sizes of images and anchors, or set it to -1.',
        )
    return to(torch.where(inside, 0.0, OUTSIDE), device)


def to(tensor: Tensor, device: torch.device) -> Tensor:
    """Move a tensor of the host to a device, without a wait for the device."""
    if device.type != 'cuda':
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)
