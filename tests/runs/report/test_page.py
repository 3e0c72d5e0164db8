"""The page: what it shows, that nothing in it can run by accident, and that a real browser opens it."""

from __future__ import annotations

import html
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import torch

import streamt1_plugins as streamt1
from streamt1_plugins.errors import InputError
from streamt1_plugins.replay import branch
from streamt1_plugins.runs.observers.record import record_to
from streamt1_plugins.runs.report import PAGE, layout, strips, write_page
from streamt1_plugins.runs.report.strips import StripKeeper
from tests.runs.shared import recorded
from tests.toy import ToyPipeline

NASTY = """<img src=x onerror="document.title='hacked'"><script>document.title='hacked'</script>{{ 7 * 7 }}'"&amp;"""


CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


QUIET = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--enable-logging=stderr",
    "--virtual-time-budget=2000",
    "--dump-dom",
)


def browse(page: Path, profile: Path, fragment: str = "") -> tuple[str, list[str]]:
    """(the document after its scripts ran, what the browser's console shows)."""
    if CHROMIUM is None:
        pytest.skip("needs Chromium")
    address = page.as_uri() + fragment
    done = subprocess.run(
        [CHROMIUM, *QUIET, f"--user-data-dir={profile}", address],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


def side(document: str) -> str:
    """The text of the selected candidate's panel."""
    found = re.search(r"<aside.*?</aside>", document, re.DOTALL)
    assert found
    return html.unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", found[0])))


def test_a_run_with_a_folder_leaves_a_page_that_names_every_candidate(tmp_path: Path) -> None:
    pipe = recorded(tmp_path)
    page = (tmp_path / PAGE).read_text()
    for node in pipe.tree:
        assert f'data-node="{node.id}"' in page
        assert str(node.seed) in page
    assert page.count('class="card kept winner"') == 4


def test_the_page_needs_nothing_else(tmp_path: Path) -> None:
    recorded(tmp_path)
    page = (tmp_path / PAGE).read_text()
    assert not re.findall(r"""(?:src|href)=["'](?!data:|#)[^"']*|url\((?!data:)|@import|https?://""", page)


def test_a_prompt_is_text_whatever_it_holds(tmp_path: Path) -> None:
    recorded(tmp_path, prompt=NASTY)
    page = (tmp_path / PAGE).read_text()
    assert NASTY not in page
    assert html.escape(NASTY, quote=True).replace("&#x27;", "&#39;").replace("&quot;", "&#34;") in page
    document, console = browse(tmp_path / PAGE, tmp_path / "profile")
    assert "hacked" not in re.search(r"<title>(.*?)</title>", document, re.DOTALL)[1].replace(
        "document.title='hacked'", ""
    )
    assert "{{ 7 * 7 }}" in html.unescape(document)
    assert console == []


def test_a_browser_opens_it_without_an_error_and_shows_the_winner(tmp_path: Path) -> None:
    pipe = recorded(tmp_path)
    document, console = browse(tmp_path / PAGE, tmp_path / "profile")
    assert console == []
    assert pipe.tree.winner[-1] in side(document)
    assert "winner" in side(document)
    assert document.count("url(&quot;data:image/webp") + document.count("url(data:image/webp") >= 4


def test_clicking_a_node_shows_its_details(tmp_path: Path) -> None:
    pipe = recorded(tmp_path)
    node = next(node for node in pipe.tree.chunk(2) if node.fate == "pruned")
    document, console = browse(tmp_path / PAGE, tmp_path / "profile", f"#node={node.id}")  # the page clicks on it
    assert console == []
    text = side(document)
    for fact in (f"Chunk 2, candidate {node.ordinal}", "pruned", str(node.seed), f"{node.score:.3f}", node.route):
        assert str(fact) in text
    assert text.count("Candidates of this chunk") == 1


def with_script(page: Path, script: str) -> Path:
    """A copy of the page with another script, which its policy lets run."""
    text = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page.read_text())
    copy = page.with_name("changed.html")
    copy.write_text(text.replace("</body>", f"<script>{script}</script></body>"))
    return copy


def press(page: Path, *keys: str) -> Path:
    """A copy of the page on which somebody presses keys."""
    events = ";".join(f"press({key!r})" for key in keys)
    how = (
        "const press = key => (document.activeElement || document.body)"
        ".dispatchEvent(new KeyboardEvent('keydown', {key, bubbles: true}))"
    )
    return with_script(page, f"{how};{events}")


def test_it_works_from_the_keyboard(tmp_path: Path) -> None:
    tree = recorded(tmp_path).tree
    page = tmp_path / PAGE

    def after(*keys: str) -> str:
        document, console = browse(press(page, *keys), tmp_path / "profile", f"#node={tree.winner[1]}")
        assert console == []
        return document

    assert f" {tree.winner[0]} " in side(after("ArrowLeft"))
    assert f" {tree.winner[2]} " in side(after("ArrowRight"))
    second = layout.cells(tree, tree.winner)
    below = next(place.node.id for place in second.values() if (place.column, place.row) == (1, 1))
    assert f" {below} " in side(after("ArrowDown"))
    assert f" {tree.winner[1]} " in side(after("ArrowDown", "ArrowUp"))
    assert {"Pause", "Play"} == {re.search("Pause|Play", side(after(*keys)))[0] for keys in ([], [" "])}
    assert ('class="whole"' in after()) != ('class="whole"' in after("z"))
    assert re.search(r'<html[^>]*data-theme="(dark|light)"', after("t"))
    assert f" {tree.winner[0]} " in side(after("Home"))
    assert f" {tree.winner[-1]} " in side(after("Home", "End"))


WALK = """
const cards = [...document.querySelectorAll(".card")], press = (key) =>
  document.activeElement.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
const here = () => document.activeElement.dataset.node, seen = new Set();
document.querySelector(".card[tabindex='0']").focus();
press("Home");
for (let chunk = 0; chunk < 4; chunk++) {
  if (chunk) { document.querySelector(`.card.winner[id^="n00${chunk}"]`).click(); }
  for (let before = null; before !== here(); press("ArrowDown")) seen.add(before = here());
}
const unnamed = [...document.querySelectorAll("button, a, [role], meter, [tabindex]")].filter(
  (each) => !(each.getAttribute("aria-label") || each.textContent.trim()));
document.title = `reached ${seen.size} of ${cards.length}, ${cards.filter((each) => each.tabIndex === 0).length} in the
  order of tabs, unnamed ${unnamed.length}, focused ${document.activeElement.getAttribute("aria-current")}`;
"""


def test_the_keyboard_reaches_every_candidate_and_everything_has_a_name(tmp_path: Path) -> None:
    recorded(tmp_path)
    document, console = browse(with_script(tmp_path / PAGE, WALK), tmp_path / "profile")
    assert console == []
    title = " ".join(re.search(r"<title>(.*?)</title>", document, re.DOTALL)[1].split())
    assert title == "reached 16 of 16, 1 in the order of tabs, unnamed 0, focused true"


def test_chunks_and_candidates_have_the_numbers_of_their_node(tmp_path: Path) -> None:
    pipe = recorded(tmp_path)
    page = (tmp_path / PAGE).read_text()
    for node in pipe.tree:
        assert f'aria-label="Chunk {node.chunk}, candidate {node.ordinal}, ' in page
    columns = re.search(r'<div class="axis".*?</div>', page, re.DOTALL)[0]
    assert re.findall(r">(\d+)</span>", columns) == ["0", "1", "2", "3"]
    assert "Chunk 4" not in page
    assert {int(chunk) for chunk in re.findall(r'title="Chunk (\d+) ', page)} <= {0, 1, 2, 3}


def test_only_the_script_of_the_page_runs(tmp_path: Path) -> None:
    recorded(tmp_path)
    page = tmp_path / PAGE
    page.write_text(page.read_text().replace("</body>", "<script>document.title='hacked'</script></body>"))
    document, console = browse(page, tmp_path / "profile")
    assert "hacked</title>" not in document
    assert "Content Security Policy" in "".join(console)
    assert "Chunk 3" in side(document)


def test_the_node_picked_by_hand_is_marked(tmp_path: Path) -> None:
    tree = recorded(tmp_path / "run").tree
    picked = next(node.id for node in tree.chunk(1) if node.fate == "pruned")
    pipe = branch(tmp_path / "run", picked, tmp_path / "mine", ToyPipeline())
    pipe.complete(pipe.last_run)
    page = (tmp_path / "mine" / PAGE).read_text()
    cards = re.findall(r'<button type="button" class="(card[^"]*)" id="n([^"]*)"', page)
    assert [name for kind, name in cards if "picked" in kind.split()] == [picked]
    assert page.count("picked by hand</b>") == 1
    again = write_page(tmp_path / "mine", tmp_path / "again.html").read_text()  # from the folder alone
    assert again == page
    assert "picked by hand</b>" not in (tmp_path / "run" / PAGE).read_text()


def test_early_pruned_candidates_show_what_their_preview_measured(tmp_path: Path) -> None:
    tree = recorded(tmp_path, "adapter.name=toy-steps", "early.steps=2", "search.candidates=4").tree
    page = (tmp_path / PAGE).read_text()
    unfinished = [node for node in tree if not node.is_finished]
    assert unfinished
    for node in unfinished:
        card = re.search(rf'id="n{node.id}".*?</button>', page, re.DOTALL)[0]
        assert f"no score, long {node.long:.3f}"[:-1] in card
        assert "<em>preview</em>" in card
        assert "\N{EN DASH}" not in card


@pytest.mark.slow
def test_forty_chunks_of_sixteen_candidates_stay_small_and_open_fast(tmp_path: Path) -> None:
    recorded(tmp_path, "search.candidates=8", "rewards.window=1", "search.final=last_chunk", chunks=40)
    shutil.rmtree(tmp_path / strips.FOLDER)
    keeper = StripKeeper(tmp_path, 9_000_000, 640)
    worst = torch.rand(12, 3, 96, 166, generator=torch.Generator().manual_seed(0))  # noise: nothing is harder to shrink
    for chunk in range(40):
        for ordinal in range(16):
            keeper.keep(f"{chunk:03d}.{ordinal:02d}", worst)
    write_page(tmp_path)
    assert len(strips.find(tmp_path)) == 640
    assert (tmp_path / PAGE).stat().st_size < 20_000_000
    document, console = browse(tmp_path / PAGE, tmp_path / "profile")
    assert console == []
    assert 'class="whole tiny' in document
    assert document.count("data-painted") <= 20  # the overview shows colors; the panel has the chunk's pictures
    document, console = browse(press(tmp_path / PAGE, "z"), tmp_path / "profile")
    assert console == []
    assert document.count("data-painted") > 50


def test_the_page_of_a_run_that_was_killed(tmp_path: Path) -> None:
    recorded(tmp_path)
    journal = tmp_path / "journal.jsonl"
    journal.write_bytes(b"".join(journal.read_bytes().splitlines(keepends=True)[:8])[:-20])
    page = write_page(tmp_path, tmp_path / "early.html").read_text()
    assert "not finished" in page
    journal.write_bytes(journal.read_bytes().splitlines(keepends=True)[0])
    assert "not finished" in write_page(tmp_path).read_text()


def test_a_run_without_rewards_or_routes_has_neither_curves_nor_memory(tmp_path: Path) -> None:
    streamt1.wrap(ToyPipeline(), "plain", overrides=["adapter.routed=false"], observers=record_to(tmp_path))("a prompt")
    page = (tmp_path / PAGE).read_text()
    assert "<h2>Score</h2>" not in page
    assert "Memory of the winner" not in page


def test_invalid_candidates_say_why(tmp_path: Path) -> None:
    recorded(tmp_path, "rewards.short={picky: {options: {ordinals: [0]}}}")
    assert "gave a value that is not finite" in (tmp_path / PAGE).read_text()


def test_what_holds_no_run_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no run"):
        write_page(tmp_path)
