# No class keeps more images than the rarest one has; an epoch repeats them, so that it has about as
# many iterations as before.
_base_ = 'classifier_r18-w16_cross-entropy_15e_imbalanced-digits-binary.py'
imbalance = int('{{$IMBALANCE:100}}')
kept = dict(**_base_.train_dataloader.dataset, filter_cfg=dict(max_ratio=1))
times = (imbalance + 1) // 2
train_dataloader = dict(
    dataset=dict(_delete_=True, type='RepeatDataset', times=times, dataset=kept)
)
