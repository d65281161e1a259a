"""A run's config for the drawn clips."""

import pytest
from ml_collections import ConfigDict


@pytest.fixture
def config(drawn_data, make_tiny) -> ConfigDict:
    """The tiny variant on the drawn clips, four in a step: one for each device."""
    config = make_tiny()
    splits = dict(train="s1", validation="s2", test="s2")
    data = dict(data_dir=drawn_data, builder_config="drawn", splits=splits, batch_size=4)
    config.data.update(data)
    config.train.update(
        dict(max_steps=6, log_every=1, samples_every=100, checkpoint_every=2, validation_clips=0)
    )
    return config
