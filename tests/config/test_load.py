"""Recipes: extends, overrides, shorthand, validation, and errors that say what would be right."""

from __future__ import annotations

import os
from itertools import pairwise
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from streamt1_plugins.config.load import MAX_EXTENDS, load
from streamt1_plugins.config.rewards import FixedCalibration, RewardPart
from streamt1_plugins.errors import RecipeError, UnknownNameError

if TYPE_CHECKING:
    from pathlib import Path


def write(folder: Path, **files: str) -> Path:
    """Write recipe files; returns the first one's path."""
    for name, text in files.items():
        (folder / f"{name}.yaml").write_text(text, encoding="utf-8")
    return folder / f"{next(iter(files))}.yaml"


# Sources.


def test_a_shipped_name_a_file_data_and_a_recipe_are_the_same(tmp_path: Path) -> None:
    shipped = load("stream-t1")
    path = write(tmp_path, mine=shipped.to_yaml())
    assert load(path) == load(str(path)) == load(shipped) == load(shipped.model_dump()) == shipped


def test_a_recipe_survives_the_round_trip_through_yaml(tmp_path: Path) -> None:
    data = {
        "description": "größe: 5 % # not a comment",
        "seed": 2**64 - 1,
        "model": "some/where",
        "adapter": {"name": "toy", "gain": 2.5, "list": [1, 2], "nothing": None},
        "rewards": {"short": {"a": {"weight": 2, "calibration": {"mean": 1, "std": 0.5}, "options": {"x": "1e-3"}}}},
        "observers": {"console": {}},
    }
    first = load(data)
    assert load(write(tmp_path, mine=first.to_yaml())) == first


def test_an_unknown_shipped_name_gets_a_guess() -> None:
    with pytest.raises(UnknownNameError, match=r"'strem-t1'\. Did you mean 'stream-t1'\? Known: .*beam, best-of-n"):
        load("strem-t1")


@pytest.mark.parametrize("missing", ["missing.yaml", "folder/missing"])
def test_a_file_that_does_not_exist_is_said_to(missing: str) -> None:
    with pytest.raises(RecipeError, match=f"Recipe file '{missing}' does not exist"):
        load(missing)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- a\n- b", "is not a recipe: expected keys and values, found list"),
        ("", "is not a recipe: expected keys and values, found nothing"),
        ("just words", "found str"),
        ("a: [1", "is not YAML"),
        ("a: &x [1]\nb: *x", r"aliases .* are not allowed.*extends"),
        ("a: !!python/object:os.system {}", "is not YAML"),
    ],
)
def test_a_file_that_is_no_recipe_says_why(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(RecipeError, match=rf"(?s)bad\.yaml .*{message}"):
        load(write(tmp_path, bad=text))


def test_a_binary_file_is_no_recipe(tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(RecipeError, match=r"bad\.yaml', line 1 is not UTF-16"):
        load(tmp_path / "bad.yaml")


# Extends.


def test_extends_merges_deeply_and_looks_beside_the_file_first(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        mine="extends: base.yaml\nsearch: {top_k: 5}\nrewards: {short: {b: {}}}",
        base="extends: stream-t1\nseed: 9\nsearch: {candidates: 7, top_k: 3}\nrewards: {short: {a: {weight: 2}}}",
    )
    loaded = load(path)
    assert (loaded.seed, loaded.search.candidates, loaded.search.top_k) == (9, 7, 5)
    assert list(loaded.rewards.short) == ["a", "b"]
    assert loaded.noise.options["sigma"] == -0.1


def test_data_may_extend_a_shipped_recipe() -> None:
    assert load({"extends": "plain", "seed": 3}).search.top_k == 1


def test_a_circle_is_named(tmp_path: Path) -> None:
    path = write(tmp_path, a="extends: b.yaml", b="extends: a.yaml")
    with pytest.raises(RecipeError, match=r"in a circle: a\.yaml -> b\.yaml -> a\.yaml"):
        load(path)


def test_a_chain_has_an_end(tmp_path: Path) -> None:
    names = [f"r{i}" for i in range(MAX_EXTENDS + 1)]
    files = {name: f"extends: {below}.yaml" for name, below in pairwise(names)}
    path = write(tmp_path, **files, **{names[-1]: "seed: 1"})
    with pytest.raises(RecipeError, match=rf"More than {MAX_EXTENDS} recipes extend each other, starting at r0\.yaml"):
        load(path)
    assert load(tmp_path / "r1.yaml").seed == 1


def test_a_missing_base_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"mine\.yaml: extends: .*nowhere\.yaml' does not exist"):
        load(write(tmp_path, mine="extends: nowhere.yaml"))


def test_a_part_keeps_the_bases_options_under_the_same_name(tmp_path: Path) -> None:
    path = write(tmp_path, mine="extends: b.yaml\nnoise: {sigma: 0.5}", b="noise: {name: propagate, seeds: release}")
    assert load(path).noise.options == {"seeds": "release", "sigma": 0.5}


@pytest.mark.parametrize("over", ["{name: other, x: 1}", "other"])
def test_a_part_with_another_name_drops_the_bases_options(tmp_path: Path, over: str) -> None:
    path = write(tmp_path, mine=f"extends: b.yaml\nnoise: {over}", b="noise: {name: propagate, sigma: 0.5}")
    loaded = load(path)
    assert loaded.noise.name == "other"
    assert "sigma" not in loaded.noise.options


def test_options_join_a_base_written_as_a_bare_name(tmp_path: Path) -> None:
    path = write(tmp_path, mine="extends: b.yaml\nmemory: {route: ema}", b="memory: fixed")
    assert (load(path).memory.name, load(path).memory.options) == ("fixed", {"route": "ema"})


def test_only_parts_are_replaced_by_name(tmp_path: Path) -> None:
    base = """
        observers: {wandb: {project: p, memory: {name: a, x: 1}, name: a}}
        rewards: {short: {r: {calibration: running}}}
    """
    over = """
        extends: b.yaml
        observers: {wandb: {name: b, memory: {name: b}}}
        rewards: {short: {r: {calibration: {mean: 3}}}}
    """
    loaded = load(write(tmp_path, mine=over, b=base))
    assert loaded.observers == {"wandb": {"project": "p", "memory": {"name": "b", "x": 1}, "name": "b"}}
    assert loaded.rewards.short["r"].calibration == FixedCalibration(mean=3)


# Overrides.


@pytest.mark.parametrize(
    ("override", "place", "value"),
    [
        ("seed=7", "seed", 7),
        ("search.top_k=3", "search.top_k", 3),
        ("noise.sigma=0.25", "noise.options.sigma", 0.25),
        ("model=null", "model", None),
        ("model=folder=with=equals", "model", "folder=with=equals"),
        ("adapter.steps=[16, 4]", "adapter.options.steps", [16, 4]),
        ("adapter.compiled=true", "adapter.options.compiled", True),
        ("noise={name: other, x: 1}", "noise.options", {"x": 1}),
        ("noise=other", "noise.options", {}),
        ("memory.name=fixed", "memory.options", {}),
        ("memory.name=reward_feedback", "memory.options.long_threshold", 0.2),
        ("selection.k=3", "selection.name", "top_k"),
        ("rewards.long.a.weight=2", "rewards.long", {"a": RewardPart(weight=2)}),
        ("observers.console={}", "observers", {"console": {}}),
        (" seed = 8", "seed", 8),
    ],
)
def test_overrides_have_yaml_types_and_reach_everything(override: str, place: str, value: Any) -> None:
    found: Any = load("stream-t1", [override])
    for step in place.split("."):
        found = found[step] if isinstance(found, dict) else getattr(found, step)
    assert found == value
    assert type(found) is type(value)


def test_overrides_leave_the_source_as_it_was() -> None:
    data = {"search": {"top_k": 1}}
    assert load(data, ["search.top_k=2"]).search.top_k == 2
    assert data == {"search": {"top_k": 1}}


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("top_k", "'top_k' is not of the form key=value"),
        ("=3", "is not of the form key=value"),
        ("search.top_k.x=3", "'top_k' is a value, not a section"),
        ("search.top_k=[1", "is not YAML"),
        ("rewards.short.a.calibration.mean=3", "'calibration' is a value, not a section"),
    ],
)
def test_wrong_overrides_say_what_is_wrong(override: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        load({"rewards": {"short": {"a": {"calibration": "running"}}}, "search": {"top_k": 1}}, [override])


# Validation.


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (
            {"searches": {}},
            r"unknown key 'searches'\. Did you mean 'search'\? Known: version, description, .*observers\.",
        ),
        (
            {"search": {"topk": 1}},
            r"'search\.topk'\. Did you mean 'top_k'\? Known: candidates, top_k, batch, final, offload\.",
        ),
        ({"sinks": {"decay": 1}}, r"'sinks\.decay'\. Did you mean 'ema_decay'\?"),
        ({"rewards": {"shrt": {}}}, r"'rewards\.shrt'\. Did you mean 'short'\?"),
        (
            {"rewards": {"long": {"a": {"weights": 1}}}},
            r"'rewards\.long\.a\.weights'\. Did you mean 'weight'\?",
        ),
        (
            {"rewards": {"long": {"a": {"calibration": {"mea": 1}}}}},
            r"'rewards\.long\.a\.calibration\.mea'\. Did you mean 'mean'\? Known: mean, std\.",
        ),
    ],
)
def test_unknown_keys_get_a_guess_and_the_known_ones(data: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        load(data)


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("search.candidates", 0),
        ("search.top_k", 0),
        ("search.batch", 0),
        ("search.top_k", 1.5),
        ("search.final", "never"),
        ("seed", -1),
        ("seed", 2**64),
        ("version", 2),
        ("sinks.sink_chunks", 0),
        ("sinks.window_chunks", 0),
        ("sinks.max_sink_chunks", 0),
        ("sinks.ema_decay", 1.1),
        ("sinks.sink_precision", "float64"),
        ("rewards.window", 0),
        ("rewards.decode", "warm"),
        ("rewards.pixels", "uint16"),
        ("rewards.short.a.weight", -1),
        ("rewards.short.a.stage", 0),
        ("rewards.short.a.on_error", "ignore"),
        ("rewards.keep", 0),
        ("rewards.short.a.calibration", "best"),
        ("rewards.short.a.calibration.std", 0),
        ("noise", 5),
        ("observers.console", 3),
    ],
)
def test_values_out_of_range_are_named_with_their_value(place: str, value: Any) -> None:
    with pytest.raises(RecipeError) as caught:
        load({}, [f"{place}={value}"])
    assert f"{place} = {value!r}: Input should be" in str(caught.value)


@pytest.mark.parametrize(
    ("override", "key"),
    [
        ("rewards.long.a.weight=.inf", "rewards.long.a.weight = inf"),
        ("adapter.steps=[1, -.inf]", "adapter.steps.1 = -inf"),
        ("observers.wandb={x: {y: .nan}}", "observers.wandb.x.y = nan"),
    ],
)
def test_a_number_that_json_cannot_hold_is_refused(override: str, key: str) -> None:
    with pytest.raises(RecipeError, match=f"{key}: recipes are recorded as JSON"):
        load({}, [override])


def test_every_problem_is_reported_with_the_source() -> None:
    with pytest.raises(RecipeError, match=r"stream-t1: search\.top_k = 0: .*; seed|stream-t1: seed = -1: .*; search"):
        load("stream-t1", ["search.top_k=0", "seed=-1"])


def test_a_recipe_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        load("plain").seed = 3  # type: ignore[misc]


# Files from elsewhere.


def test_what_is_no_recipe_file_is_named(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.yaml")
    (tmp_path / "folder.yaml").mkdir()
    (tmp_path / "huge.yaml").write_bytes(b"#" * 300_000)
    (tmp_path / "latin.yaml").write_bytes(b"seed: 1\ndescription: caf\xe9\n")
    for name, message in {
        "pipe.yaml": "is no regular file",
        "folder.yaml": "is a folder",
        "huge.yaml": "more than 200,000 bytes",
        "latin.yaml": "line 2 is not UTF-8",
        f"{'x' * 300}.yaml": "File name too long",
        "a\0b.yaml": "NUL",
    }.items():
        with pytest.raises(RecipeError, match=message):
            load(tmp_path / name)
        if name != "a\0b.yaml":
            with pytest.raises((RecipeError, UnknownNameError), match=message):
                load(write(tmp_path, mine=f"extends: {name}"))


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_a_recipe_may_have_a_byte_order_mark(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "mine.yaml").write_text("description: größe\r\nseed: 7\r", encoding=encoding)
    assert (load(tmp_path / "mine.yaml").description, load(tmp_path / "mine.yaml").seed) == ("größe", 7)


@pytest.mark.parametrize("extends", ["mine.yaml", "./folder/../mine.yaml", "link.yaml"])
def test_a_recipe_that_extends_itself_is_a_circle(tmp_path: Path, extends: str) -> None:
    (tmp_path / "link.yaml").symlink_to(tmp_path / "mine.yaml")
    (tmp_path / "folder").mkdir()
    with pytest.raises(RecipeError, match="in a circle"):
        load(write(tmp_path, mine=f"extends: {extends}"))


@pytest.mark.parametrize("extends", ["[a]", "{}", "5", "true"])
def test_extends_is_a_name(tmp_path: Path, extends: str) -> None:
    with pytest.raises(RecipeError, match=r"mine\.yaml: extends = .*: expected the name"):
        load(write(tmp_path, mine=f"extends: {extends}"))


@pytest.mark.parametrize("source", [[1], b"plain", None, 5, object()])
def test_a_recipe_is_a_name_a_file_data_or_a_recipe(source: Any) -> None:
    with pytest.raises(RecipeError, match="A recipe is a shipped name, a file, a mapping or a Recipe"):
        load(source)


def test_any_mapping_will_do_and_its_numbers_may_be_numpys() -> None:
    data = MappingProxyType({"seed": np.int64(3), "adapter": {"name": "toy", "steps": (16, 4)}})
    loaded = load(data)
    assert (loaded.seed, loaded.adapter.options) == (3, {"steps": [16, 4]})


def test_many_mistakes_are_one_short_message() -> None:
    with pytest.raises(RecipeError, match="and 95 more") as caught:
        load({"rewards": {"short": {f"r{number}": {"weight": "x" * 1000} for number in range(100)}}})
    assert len(str(caught.value)) < 3000
