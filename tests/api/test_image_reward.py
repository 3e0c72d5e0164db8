"""The base of rewards that judge single frames: its cache of tensors."""

from __future__ import annotations

import torch

from streamt1_plugins.api.image_reward import TensorCache


def test_the_cache_stays_within_its_bytes_and_drops_the_least_recently_used() -> None:
    cache: TensorCache[str] = TensorCache(3 * (256 + 40))
    for name in "abc":
        cache.put(name, torch.zeros(10))
    assert cache.get("a") is not None  # now the most recently used
    cache.put("d", torch.zeros(10))
    assert [cache.get(name) is None for name in "abcd"] == [False, True, False, False]
    cache.put("d", torch.zeros(10))
    assert (len(cache), cache.currsize) == (3, 3 * 296)
    cache.put("huge", torch.zeros(1000))
    assert cache.get("huge") is None
    assert len(cache) == 3
    cache.clear()
    assert (len(cache), cache.currsize) == (0, 0)


def test_a_cache_of_no_bytes_keeps_nothing() -> None:
    cache: TensorCache[str] = TensorCache(0)
    cache.put("a", torch.zeros(1))
    assert cache.get("a") is None
