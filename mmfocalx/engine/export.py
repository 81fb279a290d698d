"""A trained one-stage detector as an ONNX file of its raw outputs, and the boxes that it finds.

The file holds backbone, neck and the forward pass of the head, for images of one size. Boxes are
decoded, and overlapping ones suppressed, by ``predict_by_feat`` of the head, as in PyTorch.
"""

from __future__ import annotations

import argparse
import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from mmdet.models.detectors import SingleStageDetector
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.registry import MODELS, init_default_scope
from mmengine.structures import InstanceData
from torch import Tensor, nn

from mmfocalx.engine import checkpoint
from mmfocalx.errors import check_integer, wrong
from mmfocalx.optional import need

INPUT = 'images'
PACKAGES = {name: name for name in ('onnx', 'onnxruntime', 'onnxscript')}
TOLERANCE = 0.01
"""How far boxes, in pixels of the original image, and scores may differ from PyTorch's."""


class RawOutputs(nn.Module):
    """The tensors that the head of a detector gives: all levels of one kind, then of the next.

    Args:
        detector: one of mmdet's ``SingleStageDetector``.

    Raises:
        TypeError: if it is of another kind.
    """

    def __init__(self, detector: Any) -> None:
        super().__init__()
        if not isinstance(detector, SingleStageDetector):
            wrong('detector', "one of mmdet's SingleStageDetector", type(detector), TypeError)
        self.backbone = detector.backbone
        self.neck = detector.neck if detector.with_neck else nn.Identity()
        self.head = detector.bbox_head

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """(B, 3, H, W) normalized images to the (B, channels, h, w) outputs."""
        outputs = self.head(self.neck(self.backbone(images)))
        return tuple(level for kind in outputs for level in kind)


def load_detector(config: Config, path: str | Path) -> Any:
    """The detector of a config with the weights of a checkpoint, on the CPU, in evaluation.

    Raises:
        UntrustedCheckpointError, TornCheckpointError, FileNotFoundError: see
            :func:`mmfocalx.engine.checkpoint.load`.
        RuntimeError: if a tensor is missing or left over; the message names it.
    """
    init_default_scope(config.get('default_scope', 'mmdet'))
    detector = MODELS.build(config.model)
    content = checkpoint.load(path, map_location='cpu')
    detector.load_state_dict(content.get('state_dict', content))
    return detector.eval()


def export(detector: Any, file: str | Path, size: tuple[int, int]) -> None:
    """Write a detector as an ONNX file with its weights, for batches of images of one size.

    Input: ``images`` (B, 3, height, width). Outputs, in this order: ``cls_scores_0`` for the first
    level and so on, ``bbox_preds_0`` ..., and what else the head gives, named as the arguments of
    its ``predict_by_feat``.

    Args:
        detector: one-stage detector of mmdet, on the CPU.
        file: what to write.
        size: width and height of the normalized and padded images.

    Raises:
        ImportError: if onnx or what writes it is missing; the message has the line for pip.
        TypeError: if the detector is of another kind.
        ValueError: if a side is not positive.
    """
    need('Exporting', PACKAGES)
    width, height = (check_integer('size', side, low=1) for side in size)
    raw = RawOutputs(detector).eval()
    images = torch.zeros(2, 3, height, width)
    with torch.no_grad():
        kinds = len(raw(images)) // _num_levels(detector)
    names = [*inspect.signature(detector.bbox_head.predict_by_feat).parameters][:kinds]
    levels = range(_num_levels(detector))
    program: Any = torch.onnx.export(
        raw,
        (images,),
        input_names=[INPUT],
        output_names=[f'{name}_{level}' for name in names for level in levels],
        dynamo=True,
        dynamic_shapes=({0: torch.export.Dim('batch')},),
        verbose=False,
    )
    graph = program.model.graph
    for part in (program.model, graph, *graph):
        part.metadata_props.clear()  # names of all buffers, source lines of each operator
    program.save(str(file))


def _num_levels(detector: Any) -> int:
    return len(detector.bbox_head.prior_generator.strides)


def open_session(file: str | Path) -> Any:
    """A session of onnxruntime on the CPU, with as many threads as PyTorch."""
    need('Exporting', PACKAGES)
    import onnxruntime  # type: ignore[import-untyped]

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    return onnxruntime.InferenceSession(str(file), options, providers=['CPUExecutionProvider'])


def detect(
    session: Any, detector: Any, images: Tensor, metas: Sequence[dict[str, Any]]
) -> list[InstanceData]:
    """The boxes of a batch, with the network run by onnxruntime.

    Args:
        session: of :func:`open_session`.
        detector: the detector that was exported; its head decodes.
        images: (B, 3, H, W) normalized images, padded to the size of the export.
        metas: per image, its meta information, as in ``DetDataSample``.

    Returns:
        Per image, ``bboxes`` (xyxy, in pixels of the original image), ``scores``, ``labels``.
    """
    levels = [torch.from_numpy(level) for level in session.run(None, {INPUT: images.numpy()})]
    count = _num_levels(detector)
    kinds = [levels[first : first + count] for first in range(0, len(levels), count)]
    found: list[InstanceData] = detector.bbox_head.predict_by_feat(
        *kinds, batch_img_metas=list(metas), rescale=True
    )
    return found


def prepared(config: Config, detector: Any, image: str | Path) -> tuple[Tensor, list[Any]]:
    """An image file after test pipeline and data preprocessor: (1, 3, H, W) and its sample."""
    pipeline = Compose(config.test_dataloader.dataset.pipeline)
    packed = pipeline(dict(img_path=str(image), img_id=0))
    data = dict(inputs=[packed['inputs']], data_samples=[packed['data_samples']])
    data = detector.data_preprocessor(data, False)
    return data['inputs'], data['data_samples']


def largest_difference(found: InstanceData, expected: InstanceData) -> float:
    """The largest difference of boxes and scores; infinite if there are others, or other labels."""
    if len(found) != len(expected) or not torch.equal(found.labels, expected.labels):
        return float('inf')
    pairs = ((found.bboxes, expected.bboxes), (found.scores, expected.scores))
    return max(((a - b).abs().max().item() for a, b in pairs if a.numel()), default=0.0)


def main(arguments: Sequence[str] | None = None) -> int:
    """Export a detector, and compare the boxes of an image with PyTorch's.

    Returns:
        0 if they agree within ``TOLERANCE``, 1 if not.
    """
    parser = argparse.ArgumentParser(prog='export.py', description=__doc__)
    parser.add_argument('config', help='config of the detector')
    parser.add_argument('checkpoint', help='its checkpoint')
    parser.add_argument('--out', type=Path, required=True, metavar='FILE.onnx')
    parser.add_argument(
        '--image',
        type=Path,
        required=True,
        help='an image; the file is for images that have its size after the test pipeline',
    )
    args = parser.parse_args(arguments)
    config = Config.fromfile(args.config)
    detector = load_detector(config, args.checkpoint)
    images, samples = prepared(config, detector, args.image)
    height, width = images.shape[-2:]
    args.out.parent.mkdir(parents=True, exist_ok=True)
    export(detector, args.out, (width, height))
    (found,) = detect(
        open_session(args.out), detector, images, [sample.metainfo for sample in samples]
    )
    with torch.no_grad():
        (expected,) = detector.bbox_head.predict(
            detector.extract_feat(images), samples, rescale=True
        )
    difference = largest_difference(found, expected)
    print(
        f'{args.out}: images of {width} x {height}, {args.out.stat().st_size / 1e6:.1f} MB. '
        f'{len(found)} boxes of {args.image}, {len(expected)} in PyTorch, largest difference '
        f'{difference:.2g}'
    )
    return int(not difference <= TOLERANCE)
