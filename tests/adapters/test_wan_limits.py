"""The limits of a causal Wan model are those of its loaded configuration."""

from __future__ import annotations

from pathlib import Path

from streamt1_plugins.plugins.resolve import model_folder
from streamt1_wan.limits import Limits, limits_of


def test_the_limits_of_the_bundled_model() -> None:
    assert limits_of(model_folder("tinyworld")) == Limits((16, 16), 4, 1024)


def test_a_model_that_is_not_here_has_no_known_limits(tmp_path: Path) -> None:
    assert limits_of("no/such-model") is None
    assert limits_of(str(tmp_path)) is None
