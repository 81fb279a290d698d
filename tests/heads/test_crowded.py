"""An image of 900 objects: mmdet's targets, in a share of mmdet's memory."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from mmengine.logging import MMLogger
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData

pytest.importorskip('mmdet')

import mmdet.models  # noqa: F401  (registers)

from helpers.forkserver import FORKSERVER
from helpers.small_heads import FOCAL, RETINA, STRIDES, VARIFOCAL, build

SIZE = 320
OBJECTS = 900
STATUS = Path('/proc/self/status')
META = dict(img_shape=(SIZE, SIZE), pad_shape=(SIZE, SIZE), scale_factor=(1, 1))


def crowd(objects=OBJECTS):
    torch.manual_seed(0)
    corner, side = torch.rand(objects, 2) * 290, torch.rand(objects, 2) * 60 + 4
    labels = torch.randint(0, 3, (objects,))
    return InstanceData(bboxes=torch.cat([corner, corner + side], 1), labels=labels)


def memory(name):
    lines = STATUS.read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) * 1024


def peak(compute):
    """The result, and how much memory it took at most beyond what the process had before."""
    before = memory('VmRSS')
    Path('/proc/self/clear_refs').write_text('5')  # the peak starts anew
    result = compute()
    return result, memory('VmHWM') - before


def targets(kind, head, objects=OBJECTS):
    sizes = [(SIZE // stride, SIZE // stride) for stride in STRIDES]
    if kind == 'FCOSHead':
        return head.get_targets(
            head.prior_generator.grid_priors(sizes, device='cpu'), [crowd(objects)]
        )
    anchors, flags = head.get_anchors(sizes, [META], device='cpu')
    return head.get_targets(anchors, flags, [crowd(objects)], [META])[:-1]


def in_a_new_process(compute, kind):
    """What it returns where no freed memory is at hand to use again."""
    with FORKSERVER.Pool(1, quiet_scope) as pool:
        return pool.apply(compute, (kind,))


def quiet_scope():
    init_default_scope('mmdet')
    MMLogger.get_current_instance().setLevel('ERROR')


def peaks_of_targets(kind):
    """Whether the targets are equal, and the peaks of mmdet's head and of ours."""
    scales = dict(RETINA['anchor_generator'], scales_per_octave=3)
    extra = dict(anchor_generator=scales) if kind == 'RetinaHead' else {}
    theirs = build(kind, loss_cls=FOCAL, **extra)
    ours = build(f'{kind}X', loss_cls=FOCAL, quality='none', **extra)
    targets(kind, theirs, 1), targets(kind, ours, 1)  # what a first call loads is not counted
    expected, their_peak = peak(lambda: targets(kind, theirs))
    got, our_peak = peak(lambda: targets(kind, ours))
    equal = all(all(map(torch.equal, *levels)) for levels in zip(expected, got, strict=True))
    return equal, their_peak, our_peak


@pytest.mark.skipif(not STATUS.exists(), reason='reads the memory of a process from Linux')
@pytest.mark.parametrize('kind', ['RetinaHead', 'FCOSHead', 'ATSSHead'])
def test_memory_of_a_crowd(kind):
    equal, their_peak, our_peak = in_a_new_process(peaks_of_targets, kind)
    assert equal
    assert their_peak > 10 * 2**20
    assert our_peak < 0.2 * their_peak


def peaks_of_steps(kind):
    """The peaks of mmdet's head and of ours."""
    sizes = [(SIZE // stride, SIZE // stride) for stride in STRIDES]

    def step(head, objects=OBJECTS):
        outs = [[level.detach() for level in levels] for levels in outputs]
        return head.loss_by_feat(*outs, [crowd(objects)], [META])

    theirs, ours = build(kind, loss_cls=FOCAL), build(f'{kind}X', loss_cls=VARIFOCAL)
    with torch.no_grad():
        outputs = theirs([torch.randn(1, 8, *size) for size in sizes])
    step(theirs, 1), step(ours, 1)
    _, their_peak = peak(lambda: step(theirs))
    _, our_peak = peak(lambda: step(ours))
    return their_peak, our_peak


@pytest.mark.skipif(not STATUS.exists(), reason='reads the memory of a process from Linux')
@pytest.mark.parametrize('kind', ['FoveaHead', 'RepPointsHead'])
def test_the_step_of_a_crowd_takes_no_more_than_mmdets(kind):
    their_peak, our_peak = in_a_new_process(peaks_of_steps, kind)
    assert our_peak < their_peak + 2 * 2**20
