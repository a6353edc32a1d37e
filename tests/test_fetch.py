"""Checkpoints and their cuts; what is fetched, from a local folder laid out as the hub lays it out."""

import numpy as np
import pytest

from kdnb import checkpoints
from kdnb.config import PROFILES

# Checkpoints


@pytest.mark.parametrize("name", [name for name, source in checkpoints.SOURCES.items() if source.kind != "tiny"])
def test_layers_are_cut_at_equal_steps_as_distilberts_are(name):
    """DistilBERT starts from BERT's layers 0, 2, 4, 7, 9, 11 (Sanh et al. 2019, released code): one rule for all."""

    def rule(kept, of):
        return tuple(int(i) for i in np.round(np.linspace(0, of - 1, kept)))

    assert rule(6, 12) == (0, 2, 4, 7, 9, 11)
    layers = checkpoints.SOURCES[name].layers
    if layers:
        assert layers == rule(len(layers), {"minilm": 6, "bert": 12}[name.split("-")[0]])
        assert len(layers) == int(name.split("-")[1])


@pytest.mark.parametrize("profile", PROFILES)
def test_every_profile_has_at_least_three_sizes_of_one_family(profile):
    kind = checkpoints.SOURCES[PROFILES[profile].large].kind
    family = [source for source in checkpoints.SOURCES.values() if source.kind == kind]
    assert len({len(source.layers) for source in family}) >= 3
