from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from typing import Any, NamedTuple

import torch
from mmdet.models.task_modules.prior_generators import anchor_inside_flags
from mmdet.structures.bbox import get_box_tensor
from torch import Tensor

from mmfocalx.errors import wrong

from .boxes import columns_and_area

OUTSIDE = -3.0


class Anchors(NamedTuple):
    """The A anchors of all levels of an image.

    Attributes:
        boxes: (A, 4), xyxy.
        columns: the columns of the boxes and their areas, (A,) each.
        sizes: how many there are of each level.
    """

    boxes: Tensor
    columns: tuple[Tensor, ...]
    sizes: tuple[int, ...]

    @classmethod
    def of(cls, boxes: Tensor, sizes: Sequence[int]) -> Anchors:
        return cls(boxes, columns_and_area(boxes), tuple(sizes))


class Outside(NamedTuple):
    """Which anchors take no part in an image.

    Attributes:
        penalty: (A,) OUTSIDE where one takes no part, else 0.
        inside: per level, the indices within the level of those that take part.
    """

    penalty: Tensor
    inside: tuple[Tensor, ...]


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

    def priors(self, generator: Any, sizes: Sequence[torch.Size], device: torch.device) -> Anchors:
        """The anchors of feature maps of some sizes."""
        if generator is not self._generator:
            self.__init__(self._priors.limit, self._outside.limit)  # type: ignore[misc]
            self._generator = generator

        def make() -> Anchors:
            levels = self._on_host(sizes)
            return Anchors.of(to(torch.cat(levels), device), [len(level) for level in levels])

        made: Anchors = self._priors.get((*sizes, device), make)
        return made

    def outside(
        self,
        sizes: Sequence[torch.Size],
        device: torch.device,
        meta: dict[str, Any],
        allowed_border: float,
    ) -> Outside | None:
        """The anchors outside an image; None if none is.

        Raises:
            ValueError: if all are.
        """
        bordered = allowed_border >= 0
        img_shape = tuple(meta['img_shape'][:2])
        pad_shape = tuple(meta['pad_shape'][:2])

        def make() -> Outside | None:
            priors = torch.cat(self._on_host(sizes)) if bordered else None
            valid = self._generator.valid_flags(sizes, pad_shape, 'cpu')
            inside = anchor_inside_flags(priors, torch.cat(valid), img_shape, allowed_border)
            return outside_of(inside, [len(level) for level in valid], device)

        key = (*sizes, device, pad_shape, bordered and (img_shape, allowed_border))
        kept: Outside | None = self._outside.get(key, make)
        return kept

    def _on_host(self, sizes: Sequence[torch.Size]) -> list[Tensor]:
        return [get_box_tensor(level) for level in self._generator.grid_priors(sizes, device='cpu')]


def outside_of(inside: Tensor, sizes: Sequence[int], device: torch.device) -> Outside | None:
    """The anchors whose flag, (A,), is False; None if all are True. Reads the flags.

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
    return Outside(
        to(torch.where(inside, 0.0, OUTSIDE), device),
        tuple(to(level.nonzero()[:, 0], device) for level in inside.split(list(sizes))),
    )


def to(tensor: Tensor, device: torch.device) -> Tensor:
    """Move a tensor to a device; if it is on the host, without a wait for the device."""
    if device.type != 'cuda' or tensor.is_cuda:
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)
