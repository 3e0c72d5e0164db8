"""The page in a real browser: a person makes a video by hand, with mouse and keys, and nothing shows in the console."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import streamt1_plugins as streamt1
from streamt1_studio.hand import Hand
from streamt1_studio.studio import Studio
from tests.studio.chrome import Page, browser
from tests.studio.serving import served
from tests.studio.standin import CHUNKS, WIDTH

NASTY = """<img src=x onerror="document.title='hacked'"><script>document.title='hacked'</script>"""
PROMPT = "a red circle moving right on a blue background"


@pytest.fixture
def page(tmp_path: Path) -> Iterator[Page]:
    with browser(tmp_path / "profile") as made:
        yield made


def status(page: Page, words: str) -> None:
    """Wait until the status line has these words."""
    page.until(f"document.querySelector('#status').innerText.includes({json.dumps(words)})")


def candidates(page: Page, chunk: int, least: int = 2) -> list[str]:
    """The candidates of a chunk, as soon as they are there with their pictures."""
    page.until(
        f"document.querySelector('#choosing').innerText.startsWith('Candidates of chunk {chunk}') &&"
        f" document.querySelectorAll('#candidates .player[data-painted]').length >= {least}"
    )
    return list(page.run("[...document.querySelectorAll('#candidates [data-node]')].map((each) => each.dataset.node)"))


def path(page: Page) -> list[str]:
    """The candidates that are kept, as the tree draws them."""
    found = page.run("[...document.querySelectorAll('#tree .card.path')].map((each) => each.dataset.node)")
    return sorted(found)


def begin(page: Page, prompt: str, play: bool = False) -> None:
    page.until("document.querySelector('#recipe').options.length > 3")
    page.click("#prompt")
    page.type(prompt)
    page.click("#beginplay" if play else "#roll")


def other_than_the_recipes(page: Page) -> str:
    """A candidate that waits, and that the recipe would not keep."""
    return str(page.run("document.querySelector('#candidates .candidate:not(.best)').dataset.node"))


def test_a_video_is_made_by_mouse_and_keys(studio: Studio, page: Page) -> None:
    with served(studio) as url:
        page.open(url)
        begin(page, PROMPT)
        assert len(candidates(page, 0)) == WIDTH
        mine = other_than_the_recipes(page)
        page.click(f"#candidates [data-node='{mine}']")
        page.until(f"document.querySelector('[data-act=keep]').innerText == 'Keep {mine}'")
        assert mine.replace("000.0", "candidate ") in page.text("aside")
        page.press("Enter")
        candidates(page, 1)
        assert path(page) == [mine]
        page.until("document.querySelector('#video').dataset.painted")
        page.press("r")
        page.until(f"document.querySelectorAll('#candidates .candidate').length == {2 * WIDTH}")
        page.press("3")
        page.press("ArrowRight")
        page.until(f"document.activeElement.dataset.node == '{candidates(page, 1)[3]}'")
        page.press("f")
        page.until(f"document.querySelectorAll('#candidates .candidate').length == {3 * WIDTH}")
        page.press("b")
        candidates(page, 0)
        assert path(page) == []
        page.press("c")  # which the first chunk does not allow
        page.press("Enter")
        candidates(page, 1)
        page.press("c")
        page.until("document.activeElement.id == 'newprompt'")
        page.run("document.querySelector('#newprompt').value = ''")
        page.type("a blue star")
        page.click("#change button")
        page.until("document.querySelector('#title').innerText == 'a blue star'")
        page.press("p")
        status(page, "finished")
        assert len(path(page)) == CHUNKS
        assert page.text("#downloads").splitlines()
        assert page.console == []


def test_closing_the_browser_loses_nothing(studio: Studio, page: Page, tmp_path: Path) -> None:
    with served(studio) as url:
        page.open(url)
        begin(page, PROMPT)
        candidates(page, 0)
        address = page.run("location.href")
        page.press("Enter")
        page.open("about:blank#gone")
        page.open(address)
        candidates(page, 1)
        assert page.text("#title") == PROMPT
        page.open("about:blank#again")
        page.open(url)  # without the take in the address: it is in the list
        page.until("document.querySelectorAll('#queue button').length == 1")
        page.click("#queue button")
        candidates(page, 1)
        page.click("[data-act='park']")
        status(page, "saved")
        page.click("[data-act='open']")
        candidates(page, 1)
        assert page.console == []


def test_an_earlier_run_is_looked_at_and_branched(studio: Studio, page: Page) -> None:
    with served(studio) as url:
        page.open(url)
        begin(page, PROMPT, play=True)
        status(page, "finished")
        studio.sittings.clear()  # as after a restart
        page.open(url + "#again")
        page.until("document.querySelectorAll('#runs button').length == 1")
        page.click("#runs button")
        page.until(f"document.querySelectorAll('#tree .card').length == {CHUNKS * WIDTH}")
        pruned = page.run("document.querySelector('#tree .card.pruned').dataset.node")
        page.click(f"#tree [data-node='{pruned}']")
        page.until(f"document.querySelector('[data-act=branch]').innerText == 'Branch from {pruned}'")
        page.press("x")
        page.until("location.hash.startsWith('#take=')")
        candidates(page, int(pruned[:3]) + 1)
        assert path(page)[-1] == pruned
        assert page.console == []


def test_text_stays_text(studio: Studio, page: Page) -> None:
    with served(studio) as url:
        page.open(url)
        begin(page, NASTY)
        candidates(page, 0)
        assert page.text("#title") == NASTY
        assert page.run("document.querySelectorAll('img, script:not([src])').length") == 0
        assert "hacked" not in page.run("document.title").replace("document.title='hacked'", "")
        page.run("document.body.append(Object.assign(document.createElement('p'), {id: 'sink'}))")
        refused = "try { document.querySelector('#sink').innerHTML = '<b>x</b>'; 'made' } catch { 'refused' }"
        assert page.run(refused) == "refused"


def test_it_fits_a_narrow_screen_and_has_two_themes(studio: Studio, page: Page, tmp_path: Path) -> None:
    with served(studio) as url:
        page.open(url)
        begin(page, PROMPT)
        candidates(page, 0)
        page.look(tmp_path / "narrow.png", 360, 800)
        assert page.run("document.documentElement.scrollWidth <= innerWidth")
        paper = "getComputedStyle(document.body).backgroundColor"
        light = page.run(paper)
        page.press("t")
        page.until(f"{paper} != {json.dumps(light)}")
        page.press("t")
        page.until(f"{paper} == {json.dumps(light)}")
        page.press("?")
        page.until("document.querySelector('#keys').innerText.includes('keep')")


@pytest.mark.slow
def test_a_video_of_the_bundled_model_is_made_by_hand_and_replayed(
    page: Page, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe, made, finish = streamt1.load(), [], Hand.finish

    def finish_and_note(hand: Hand) -> None:
        finish(hand)
        made.append(hand.take.frames)

    monkeypatch.setattr(Hand, "finish", finish_and_note)
    with served(Studio(pipe, tmp_path / "runs")) as url:
        page.open(url)
        begin(page, PROMPT)
        assert "forwards" in page.text("#cost") or not page.text("#cost")
        candidates(page, 0)
        mine = other_than_the_recipes(page)
        page.click(f"#candidates [data-node='{mine}']")
        page.until(f"document.querySelector('[data-act=keep]').innerText == 'Keep {mine}'")
        page.press("Enter")  # overruled
        candidates(page, 1)
        page.press("Enter")
        candidates(page, 2)
        page.press("b")  # back to chunk 1
        candidates(page, 1)
        page.press("Enter")
        candidates(page, 2)
        page.press("c")
        page.until("document.activeElement.id == 'newprompt'")
        page.run("document.querySelector('#newprompt').value = ''")
        page.type("a red star moving right on a blue background")
        page.click("#change button")
        page.until("document.querySelectorAll('#scenes li').length == 1")
        candidates(page, 2)
        page.press("p")
        status(page, "finished")
        kept = path(page)
        assert kept[0] == mine
        assert len(kept) == 7
        assert page.console == []
    (folder,) = (tmp_path / "runs").iterdir()
    tree = json.loads((folder / "tree.json").read_text())
    assert tree["winner"] == kept
    assert {"keep", "back", "prompt"} <= {action["kind"] for action in tree["actions"]}
    again = streamt1.regenerate(folder, None, pipe, output_type="pt").frames[0]
    assert torch.equal(again, made[0])
