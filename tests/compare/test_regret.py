"""Regret against an oracle, paired by prompt and seed, at the closest forwards."""

from __future__ import annotations

from streamt1_plugins.compare import regret, table
from tests.compare.examples import row

RECIPES = {"plain": (4, 0.5), "beam@2": (8, 0.6), "beam@4": (16, 0.7), "oracle@2": (8, 0.8), "oracle@4": (16, 1.0)}


def rows() -> list[dict[str, object]]:
    marks = {label: {"oracle": True} if label.startswith("oracle") else {} for label in RECIPES}
    return [
        row(label, prompt, score + lift, forwards=forwards, **marks[label])
        for label, (forwards, score) in RECIPES.items()
        for prompt, lift in (("a", 0.0), ("b", -0.25))
    ]


def test_each_recipe_is_paired_with_the_oracle_of_the_closest_forwards() -> None:
    found = table.summary(rows())
    each = found["regret"]["recipes"]
    assert found["oracle"] == ["oracle@2", "oracle@4"]
    assert {name: (entry["against"], entry["ratio"]) for name, entry in each.items()} == {
        "plain": ("oracle@2", 2.0),
        "beam@2": ("oracle@2", 1.0),
        "beam@4": ("oracle@4", 1.0),
    }
    assert {name: entry["regret"]["mean"] for name, entry in each.items()} == {
        "plain": 0.3,
        "beam@2": 0.2,
        "beam@4": 0.3,
    }
    assert each["beam@4"]["regret"]["prompts"] == 2


def test_only_shared_prompts_and_seeds_count() -> None:
    both = [row("plain", "a", 0.5), row("plain", "b", 0.0), row("oracle", "a", 0.75, oracle=True)]
    both += [row("oracle", "a", 0.0, seed=1, oracle=True)]
    entry = regret.summary(both, {"plain": 4, "oracle": 4}, "score")["regret"]["recipes"]["plain"]
    assert entry["regret"] == {"mean": 0.25, "low": 0.25, "high": 0.25, "prompts": 1}


def test_without_an_oracle_there_is_no_regret() -> None:
    assert regret.summary([row("plain", "a", 0.5)], {"plain": 4}, "score") == {}
    assert "regret" not in table.markdown(table.summary([row("plain", "a", 0.5)]))


def test_the_table_marks_the_oracle_and_forwards_that_are_not_matched() -> None:
    text = table.markdown(table.summary(rows()))
    assert "| oracle@4 (sees the judge) |" in text
    assert "| plain | +0.300 [+0.300, +0.300] | oracle@2 (2 x the forwards) |" in text
    assert "| beam@4 | +0.300 [+0.300, +0.300] | oracle@4 |" in text
    assert "Regret is the oracle's score minus" in text


def test_an_oracle_that_no_recipe_shares_a_video_with_leaves_the_cell_empty() -> None:
    found = table.summary([row("plain", "a", 0.5), row("oracle", "b", 0.75, oracle=True)])
    assert found["regret"]["recipes"]["plain"]["regret"] is None
    assert "| plain |  | oracle |" in table.markdown(found)


def test_forwards_that_are_not_counted_match_nothing() -> None:
    found = table.summary([row("plain", "a", 0.5, forwards=0), row("oracle", "a", 0.75, oracle=True)])
    entry = found["regret"]["recipes"]["plain"]
    assert not regret.is_matched(entry)
    assert regret.against(entry) == "oracle (unknown forwards)"
