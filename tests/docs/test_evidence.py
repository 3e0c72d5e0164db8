"""The pages quote the committed evidence."""

from __future__ import annotations

import json
from pathlib import Path

from streamt1_plugins.compare import table
from streamt1_plugins.compare.run import read

EVIDENCE = Path(__file__).parents[2] / "docs" / "evidence"


def test_the_readme_quotes_the_committed_evidence() -> None:
    readme = (EVIDENCE.parents[1] / "README.md").read_text(encoding="utf-8")
    found = table.summary(read(EVIDENCE / "embedded_5s"))["recipes"]
    for name in ("plain", "best-of-n", "beam", "stream-t1"):
        metric = found[name]["metrics"]["score"]
        gain = table.interval(metric["gain"])
        line = f"| `{name}` | {metric['mean']['mean']:.3f} | {gain} | {found[name]['cost']['forwards']:g} |"
        assert line in readme
    long = table.summary(read(EVIDENCE / "embedded_30s"))["recipes"]
    scores = [f"{long[name]['metrics']['score']['mean']['mean']:.3f}" for name in ("stream-t1", "plain")]
    assert f"At 30 seconds `stream-t1` scores {scores[0]} and `plain` {scores[1]}." in readme


def test_the_evidence_quotes_what_the_units_were_measured_to_do() -> None:
    text = " ".join((EVIDENCE / "README.md").read_text(encoding="utf-8").split())
    found = json.loads((EVIDENCE / "units.json").read_text(encoding="utf-8"))
    assert max(row["initial_noise"] for row in found["noise"]) < 0.000001
    for plan, route, pattern in (
        ("recommended", "ema", "({:.3f} and {:.3f})"),
        ("ema_decay 0.9", "ema", "at 0.9 it is {:.2f} and {:.2f}"),
        ("recommended", "append", "({:.2f} and {:.2f} of that distance)"),
    ):
        effects = [row["effect"] for row in found["memory"] if (row["plan"], row["route"]) == (plan, route)]
        assert pattern.format(*sorted(effects)) in text
    counts = {route: sum(row[route] for row in found["routes"]) for route in ("append", "ema", "discard")}
    told = "{append} of {total} decisions were to append, {ema} to merge and {discard} to discard"
    assert told.format(**counts, total=sum(counts.values())) in text
