"""A real runner on rows instead of images: a training in less than a second."""

import json
from pathlib import Path

import torch
from mmengine.model import BaseModel
from mmengine.registry import MODELS
from mmengine.runner import Runner
from torch import nn
from torch.utils.data import Dataset

import mmfocalx  # noqa: F401  (registers)
from helpers.signals import CLASSES, NAMES, no_hooks


class Rows(Dataset):
    def __init__(self):
        self.metainfo = dict(classes=NAMES)

    def __len__(self):
        return 24

    def __getitem__(self, index):
        g = torch.Generator().manual_seed(index)
        x = torch.randn(6, 4, generator=g)
        labels = torch.randint(0, CLASSES + 1, (6,), generator=g)
        return dict(x=x, labels=labels, quality=torch.rand(6, generator=g) * 0.8 + 0.1)


class Detector(BaseModel):
    """Losses with state, each called on two levels."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, CLASSES)
        self.slide = MODELS.build(dict(type='SlideLossX', momentum=0.5))
        self.equalized = MODELS.build(dict(type='EqualizedFocalLossX', num_classes=CLASSES))

    def forward(self, x, labels, quality, mode='loss'):
        losses = {}
        for number, rows in enumerate((slice(0, 4), slice(4, 6))):
            logits = self.linear(x[:, rows].flatten(0, 1))
            target = labels[:, rows].flatten(), quality[:, rows].flatten()
            losses[f'loss_slide{number}'] = self.slide(logits, target)
            losses[f'loss_equalized{number}'] = self.equalized(logits, target)
        return losses


def train(work_dir, *hooks, epochs=3, resume=False, backends=('LocalVisBackend',), **config):
    """A model trained for ``epochs`` of 6 iterations, and the signals in its scalars.json."""
    torch.manual_seed(0)
    runner = Runner(
        model=Detector(),
        work_dir=str(work_dir),
        train_dataloader=dict(
            batch_size=4,
            num_workers=0,
            dataset=Rows(),
            sampler=dict(type='DefaultSampler', shuffle=True),
            collate_fn=dict(type='default_collate'),
        ),
        train_cfg=dict(by_epoch=True, max_epochs=epochs),
        custom_hooks=list(hooks),
        visualizer=dict(
            type='Visualizer',
            name=f'{work_dir}{epochs}',
            vis_backends=[dict(type=backend) for backend in backends],
        ),
        randomness=dict(seed=0),
        experiment_name=f'{work_dir.name}{epochs}',
        resume=resume,
        default_scope='mmdet',
        log_level='ERROR',
        **{'optim_wrapper': dict(optimizer=dict(type='AdamW', lr=0.1)), **config},
    )
    runner.train()
    assert no_hooks(runner.model)
    rows = []
    for file in sorted(Path(work_dir).glob('*/vis_data/scalars.json')):
        rows += [json.loads(line) for line in file.read_text().splitlines()]
    return runner, [row for row in rows if any(key.startswith('loss_signals/') for key in row)]
