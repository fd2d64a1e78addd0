"""Paths, initial weights and masks are the same as in version 0.1: a seed always gives the same network."""

import json
from pathlib import Path

import pytest

from drawn import NETWORKS, drawn

RECORDED = json.loads((Path(__file__).parents[1] / "support" / "recorded" / "drawn.json").read_text())


@pytest.mark.parametrize("name", NETWORKS)
def test_a_seed_draws_what_it_always_drew(name):
    assert drawn(name) == RECORDED[name]
