"""What a head of the matrix is fed with: two images, three boxes, random features."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

CLASSES, CHANNELS, IMAGE = 3, 8, 96
BOXES = (
    ((2.0, 2.0, 34.0, 36.0), (28.0, 24.0, 60.0, 60.0)),
    ((16.0, 10.0, 50.0, 46.0),),
)
LABELS = ((0, 2), (1,))
LAYERS, QUERIES = 2, 6

Feed = Callable[[nn.Module, tuple[int, ...]], dict[str, Any]]


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def samples(labels: tuple[tuple[int, ...], ...] = LABELS, with_masks: bool = False) -> list[Any]:
    import numpy as np
    from mmdet.structures import DetDataSample
    from mmdet.structures.mask import BitmapMasks
    from mmengine.structures import InstanceData

    batch = []
    for index, (boxes, classes) in enumerate(zip(BOXES, labels, strict=True)):
        sample = DetDataSample(
            metainfo=dict(
                img_shape=(IMAGE, IMAGE),
                ori_shape=(IMAGE, IMAGE),
                pad_shape=(IMAGE, IMAGE),
                batch_input_shape=(IMAGE, IMAGE),
                scale_factor=(1.0, 1.0),
                img_id=index,
            )
        )
        sample.gt_instances = InstanceData(bboxes=torch.tensor(boxes), labels=torch.tensor(classes))
        if with_masks:
            masks = np.zeros((len(boxes), IMAGE, IMAGE), dtype=np.uint8)
            for mask, (x1, y1, x2, y2) in zip(masks, boxes, strict=True):
                mask[int(y1) : int(y2), int(x1) : int(x2)] = 1
            sample.gt_instances.masks = BitmapMasks(masks, IMAGE, IMAGE)
        batch.append(sample)
    return batch


def features(strides: tuple[int, ...]) -> tuple[Tensor, ...]:
    return tuple(
        random(len(BOXES), CHANNELS, IMAGE // stride, IMAGE // stride, seed=stride)
        for stride in strides
    )


def on_features(head: nn.Module, strides: tuple[int, ...]) -> dict[str, Any]:
    return head.loss(features(strides), samples())


def on_masks(head: nn.Module, strides: tuple[int, ...]) -> dict[str, Any]:
    return head.loss(features(strides), samples(with_masks=True))


def on_one_class(head: nn.Module, strides: tuple[int, ...]) -> dict[str, Any]:
    return head.loss(features(strides), samples(labels=((0, 0), (0,))))


def at_epoch(epoch: int) -> Feed:
    """Heads that read the epoch from MMEngine's message hub."""

    def feed(head: nn.Module, strides: tuple[int, ...]) -> dict[str, Any]:
        from mmengine.logging import MessageHub

        MessageHub.get_current_instance().update_info('epoch', epoch)
        return on_features(head, strides)

    return feed


def with_teacher_boxes(head: nn.Module, strides: tuple[int, ...]) -> dict[str, Any]:
    """Distillation of localisation: the teacher is the head itself, on other features."""
    with torch.no_grad():
        teacher = head(tuple(feature.flip(0) for feature in features(strides)))
    return head.loss(features(strides), teacher, samples())


def with_teacher_labels(head: nn.Module, strides: tuple[int, ...]) -> dict[str, Any]:
    """Distillation of label assignment: the teacher is the head itself."""
    batch = samples()
    with torch.no_grad():
        assignment = head.get_label_assignment(
            *head(features(strides)),
            [sample.gt_instances for sample in batch],
            [sample.metainfo for sample in batch],
        )
    return head.loss(features(strides), assignment, batch)


def hidden_states(queries: int = QUERIES) -> Tensor:
    return random(LAYERS, len(BOXES), queries, CHANNELS)


def reference_points(queries: int = QUERIES, size: int = 4) -> list[Tensor]:
    return [
        random(len(BOXES), queries, size, seed=layer).sigmoid() for layer in range(1, LAYERS + 2)
    ]


def on_queries(head: nn.Module, strides: tuple[int, ...]) -> dict[str, Any]:
    return head.loss(hidden_states(), samples())


def on_queries_with_points(head: nn.Module, strides: tuple[int, ...]) -> dict[str, Any]:
    return head.loss(hidden_states(), reference_points(size=2)[0], samples())


def on_queries_with_boxes(head: nn.Module, strides: tuple[int, ...]) -> dict[str, Any]:
    references = torch.stack(reference_points()[:LAYERS])
    return head.loss(hidden_states(), references, samples())


def encoder_outputs(head: nn.Module) -> tuple[Tensor, Tensor]:
    memory = random(len(BOXES), QUERIES, CHANNELS, seed=7)
    return head.cls_branches[LAYERS](memory), head.reg_branches[LAYERS](memory).sigmoid()


def on_two_stages(head: nn.Module, strides: tuple[int, ...]) -> dict[str, Any]:
    return head.loss(hidden_states(), reference_points(), *encoder_outputs(head), samples())


def denoising() -> dict[str, int]:
    """Two groups of a positive and a negative query for each of the two boxes at most."""
    return dict(num_denoising_queries=8, num_denoising_groups=2)


def on_denoising_queries(head: nn.Module, strides: tuple[int, ...]) -> dict[str, Any]:
    queries = QUERIES + denoising()['num_denoising_queries']
    return head.loss(
        hidden_states(queries),
        reference_points(queries),
        *encoder_outputs(head),
        samples(),
        denoising(),
    )


def on_dense_queries(head: nn.Module, strides: tuple[int, ...]) -> dict[str, Any]:
    dense = 5
    queries = QUERIES + denoising()['num_denoising_queries'] + dense
    head.cache_dict = dict(
        num_dense_queries=dense,
        distinct_query_mask=[torch.ones(len(BOXES), 1, QUERIES, dtype=torch.bool)] * LAYERS,
        num_heads=1,
    )
    outputs = encoder_outputs(head)
    return head.loss(
        hidden_states(queries),
        reference_points(queries),
        *outputs,
        samples(),
        dict(denoising(), num_dense_queries=dense),
        *(output.clone() for output in outputs),
    )


def on_text(head: nn.Module, strides: tuple[int, ...]) -> dict[str, Any]:
    """Four tokens of text, of which the last of the second image is padding."""
    tokens = 4
    queries = QUERIES + denoising()['num_denoising_queries']
    text = random(len(BOXES), tokens, CHANNELS, seed=9)
    mask = torch.ones(len(BOXES), tokens, dtype=torch.bool)
    mask[1, -1] = False
    batch = samples()
    for sample in batch:
        instances = sample.gt_instances
        instances.positive_maps = torch.zeros(len(instances), head.max_text_len)
        instances.positive_maps[range(len(instances)), instances.labels] = 1.0
        instances.text_token_mask = mask[:1].repeat(len(instances), 1)
    memory = random(len(BOXES), QUERIES, CHANNELS, seed=7)
    return head.loss(
        hidden_states(queries),
        reference_points(queries),
        text,
        mask,
        head.cls_branches[LAYERS](memory, text, mask),
        head.reg_branches[LAYERS](memory).sigmoid(),
        batch,
        denoising(),
    )
