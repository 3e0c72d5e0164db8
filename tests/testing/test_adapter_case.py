"""The fixtures of the adapter contract: comparisons that fail where values or shapes differ."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from streamt1_plugins.testing.adapter_case import AdapterCase, check_output, check_same, seeded


class Case(AdapterCase):
    name = "mine"
    tolerance = 0.1

    def call(self) -> dict[str, object]:
        return {"prompt": "a red circle", "num_frames": 33}


def test_arguments_are_the_call_with_changes() -> None:
    found = Case().arguments({"prompt": ..., "num_frames": 9})
    assert found.keys() == {"num_frames", "generator"}
    assert found["num_frames"] == 9
    assert torch.equal(found["generator"].get_state(), seeded(0).get_state())


def test_same_is_the_last_bit_and_the_shape() -> None:
    check_same(torch.ones(2), np.ones(2, dtype=np.float32))
    with pytest.raises(AssertionError, match=r"differ by up to 1"):
        check_same(torch.ones(2), torch.zeros(2))
    with pytest.raises(AssertionError, match=r"shape \[2\], expected \[1, 2\]"):
        check_same(torch.ones(2), torch.ones(1, 2))


def test_close_is_relative_to_the_largest_value() -> None:
    Case().check_close(torch.tensor([10.9]), torch.tensor([10.0]), "latents")
    with pytest.raises(AssertionError, match=r"latents: values differ by 1\.1, allowed 1"):
        Case().check_close(torch.tensor([11.1]), torch.tensor([10.0]), "latents")


@pytest.mark.parametrize("output_type", ["latent", "pt", "np", "pil"])
def test_an_output_is_one_video_in_its_form(output_type: str) -> None:
    one = [[SimpleNamespace(size=(8, 8))]] if output_type == "pil" else torch.zeros(1, 3, 2, 4, 4)
    check_output(one, output_type)
    with pytest.raises(AssertionError, match="2 videos instead of one"):
        check_output([*one, *one], output_type)


def test_a_pipeline_without_callbacks_or_plain_calls_skips_their_tests() -> None:
    class Bare(Case):
        has_plain = has_callbacks = False

    for skipped in (Bare().plain, Bare().needs_callbacks):
        with pytest.raises(pytest.skip.Exception):
            skipped()
