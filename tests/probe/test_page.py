"""The page of a probe."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

from streamt1_plugins.probe import page
from streamt1_plugins.probe.measure import ProbeOptions, probe_prompt
from streamt1_plugins.probe.run import Probe, Probed, conclude, searching
from tests.compare.examples import NASTY
from tests.probe.models import Model, Quality, wrapped


@cache
def probed(model: str = "whole", *prompts: str) -> tuple[list[dict[str, Any]], Probed]:
    models = {"whole": Model(shares=(0.5, 0.5), carry=0.5, anchor=0.2), "bare": Model(routed=False, chunks=1)}
    pipe = wrapped(models[model], quality=Quality(error=0.5), **{NASTY: Quality()} if prompts else {})
    probe = Probe(searching(pipe), prompts or ("a", "b"), options=ProbeOptions(candidates=4, pairs=1, chunks=3))
    rows = [probe_prompt(probe.measurement(prompt)) for prompt in probe.prompts]
    return rows, conclude(probe, rows)


def text(html: str) -> str:
    return " ".join(re.sub(r"<style>.*?</style>|<svg.*?</svg>|<[^>]*>", " ", html, flags=re.DOTALL).split())


def test_the_page_has_the_advice_its_recipe_and_every_plot() -> None:
    rows, found = probed()
    html = page.render(rows, found)
    for reasons in found.advice.reasons.values():
        assert all(reason in text(html) for reason in reasons)
    assert "extends: probed.yaml" in html
    assert html.count("<svg") == 5
    assert "Chunks 6 of 6" in text(html)
    assert "short.quality" in text(html)


def test_what_was_not_measured_has_no_plot() -> None:
    html = page.render(*probed("bare"))
    assert "What a memory route changes" not in html
    assert html.count("<svg") == 2  # gains and shares of the only chunk


def test_the_page_loads_nothing_from_elsewhere(tmp_path: Path) -> None:
    page.write(tmp_path, *probed())
    html = (tmp_path / page.PAGE).read_text(encoding="utf-8")
    found = re.findall(r"""(?:src|href)=["']?([^"'>]*)|url\(([^)]*)\)|@import ([^;]*)""", html)
    assert {address[:5] for each in found for address in each if address and address[0] != "#"} == {"data:"}


def test_nothing_that_was_typed_can_run_in_the_page() -> None:
    html = page.render(*probed("bare", NASTY))
    assert "<img" not in html
    assert html.count("<script>") == 1
    assert html.count("{{ 7 * 7 }}") >= 3


def test_the_same_rows_give_the_same_page() -> None:
    assert page.render(*probed()) == page.render(*probed())
