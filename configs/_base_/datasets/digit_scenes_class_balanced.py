# Digit scenes in which images are repeated for the classes that less than a quarter of them show:
# six, seven, eight and nine, twice each (repeat-factor sampling, https://arxiv.org/abs/1908.03195).
_base_ = 'digit_scenes.py'

train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='ClassBalancedDataset',
        oversample_thr=0.25,
        dataset=_base_.train_dataloader.dataset,
    )
)
