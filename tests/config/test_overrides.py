"""Overrides: each one has its effect, or is refused."""

from __future__ import annotations

from typing import Any

import pytest

from streamt1_plugins.config.load import load
from streamt1_plugins.config.overrides import LONGEST, apply, refuse_double
from streamt1_plugins.errors import RecipeError


@pytest.mark.parametrize(
    "overrides",
    [
        ["seed=1", "seed=2"],
        ["search.top_k=2", "search.candidates=3", "search.top_k=3"],
        ["search.top_k=3", "search={candidates: 4}"],
        ["noise.sigma=0", "noise=other"],
        ["noise.sigma=0", "noise.name=other"],
        ["search.park=cpu", "search.offload=none"],
        ["rewards.long.a.weight=2", "rewards.long={a: {}}"],
        ["search.batch=1", "search.batch=true"],
    ],
)
def test_an_override_that_another_one_undoes_is_an_error(overrides: list[str]) -> None:
    with pytest.raises(RecipeError, match=f"^Override '{overrides[0]}' is undone by '.*': give each key once"):
        load("stream-t1", overrides)


@pytest.mark.parametrize(
    "overrides",
    [
        ["search={candidates: 4}", "search.top_k=3"],
        ["search={candidates: 4}", "search.candidates=3"],
        ["memory=fixed", "memory.route=ema"],
        ["noise.name=other", "noise.x=1"],
        ["seed=1", "seed=1"],
        ["observers.video={}", "observers.video.crf=30"],
        ["rewards.long.a={}", "rewards.long.b={}"],
        ["rewards.long.a.weight=2", "rewards.long={b: {}}"],
        ["rewards.long.a={}", "rewards={window: 4, short: {b: {}}}"],
    ],
)
def test_overrides_may_add_to_each_other(overrides: list[str]) -> None:
    assert load("stream-t1", overrides)


def test_keys_given_twice_inside_an_override_are_an_error() -> None:
    with pytest.raises(RecipeError, match=r"in override 'search=.*line 1, column 12: the key 'top_k' is given twice"):
        load("stream-t1", ["search={top_k: 2, top_k: 3}"])


def test_a_single_override_may_be_a_text() -> None:
    assert load("stream-t1", "seed=5").seed == 5


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (5, "Override 5 is no text"),
        ("a..b=1", "is not of the form key=value"),
        ("extends=plain", "`extends` belongs to a recipe file"),
        ("seed=&a 1", "anchors"),
        ("seed=1e400", "too large"),
        ("rewards.long={}", "names no reward. To leave out rewards .* rewards.replace=true"),
        ("rewards={}", "names no reward"),
        ("x=" + "y" * LONGEST, "characters; at most"),
        ("rewards.long.basic.weight=.inf", "rewards.long.basic.weight = inf"),
        ("rewards.long.basic.weight=inf", "weight = 'inf': Input should be a valid number"),
        ("rewards.long.basic.veto=.nan", "rewards.long.basic.veto = nan"),
        ("rewards.long.basic.device=nonsense", "device = 'nonsense'"),
        ("search.candidates=1000000000", "less than or equal to 10000"),
        ("search={candidates: 1000, top_k: 1000}", "1000000 candidates a chunk, at most 10000"),
        ("search.top_k=true", "search.top_k = True: Input should be a valid integer"),
        ("search.top_k='3'", "search.top_k = '3': Input should be a valid integer"),
        ("placement.check=no", "placement.check = 'no': Input should be a valid boolean"),
        ("model=12", "model = 12: Input should be a valid string"),
        ("parallel.timeout=1e300", "parallel.timeout = 1e[+]300"),
    ],
)
def test_what_has_no_meaning_is_refused(override: Any, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        load("stream-t1", [override])


def test_overrides_leave_their_values_apart() -> None:
    data: dict[str, Any] = {}
    apply(data, ["observers={a: {}}", "observers.a.x=1"])
    assert data == {"observers": {"a": {"x": 1}}}


def test_an_option_and_an_override_may_not_differ() -> None:
    refuse_double(["model=a", "adapter=b", "seed=3"], model="a", adapter="b", seed=3)
    refuse_double(["model=a"], model=None)
    for override, options in (
        ("model=a", {"model": "b"}),
        ("adapter.name=a", {"adapter": "b"}),
        ("seed=1", {"seed": 2}),
    ):
        with pytest.raises(RecipeError, match=f"--{next(iter(options))} . and an override give"):
            refuse_double([override], **options)


def test_a_single_text_is_one_override_and_none_is_none() -> None:
    assert load("stream-t1", "search.top_k=3").search.top_k == 3
    assert load("stream-t1", "description=a b, c").description == "a b, c"
    assert load("stream-t1", None) == load("stream-t1")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ("search.top_k=3 search.candidates=2", r"Give a list: \['search.top_k=3', 'search.candidates=2'\]"),
        ("search.top_k=3, noise=fresh", r"Give a list: \['search.top_k=3', 'noise=fresh'\]"),
        ({"search.top_k": 3}, r"not a mapping\. Give a list: \['search.top_k=3'\]"),
        (3, "a list of texts such as 'search.top_k=3', got 3"),
        (["search.top_k=3", 3], "Override 3 is no text"),
        ("search.top_k", "is not of the form key=value"),
    ],
)
def test_what_is_no_list_of_texts_is_refused_with_what_to_write(overrides: Any, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        load("stream-t1", overrides)
