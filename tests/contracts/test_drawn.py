"""Paths, drawn weights and masks are those of version 0.1: a seed means the same network for ever."""

import json
from pathlib import Path

import pytest

from drawn import NETWORKS, drawn

RECORDED = json.loads((Path(__file__).parents[1] / "support" / "recorded" / "drawn.json").read_text())


@pytest.mark.parametrize("name", NETWORKS)
def test_a_seed_draws_what_it_always_drew(name):
    assert drawn(name) == RECORDED[name]
