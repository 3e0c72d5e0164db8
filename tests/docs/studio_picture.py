"""The pictures of the studio in the documentation: a take of the bundled model, made by hand in Chromium.

python -m tests.docs.studio_picture      # writes docs/images/studio.{png,webp}, and prints how soon a chunk is seen
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

from PIL import Image

import streamt1_plugins as streamt1
from streamt1_studio.studio import Studio
from tests.studio.chrome import Page, browser
from tests.studio.serving import served

ROOT = Path(__file__).parents[2]
PICTURE = ROOT / "docs" / "images" / "studio.png"
PROMPT = "a green circle bouncing and a red star bouncing on a white background"
WIDTH, HEIGHT = 1180, 1060
KEPT = 4
MOVING, STEP = 760, 900  # pixels of width, and milliseconds of a picture, of the moving one


class Film:
    """Screenshots of the page, one after another."""

    def __init__(self, page: Page, folder: Path) -> None:
        self.page, self.folder, self.frames = page, folder, list[Image.Image]()

    def shoot(self) -> None:
        path = self.folder / f"{len(self.frames)}.png"
        self.page.look(path, WIDTH, HEIGHT)
        with Image.open(path) as picture:
            size = (MOVING, round(picture.height * MOVING / picture.width))
            self.frames.append(picture.convert("RGB").resize(size, Image.Resampling.LANCZOS))

    def save(self, path: Path) -> None:
        durations = [STEP] * (len(self.frames) - 1) + [3 * STEP]
        first, *others = self.frames
        first.save(path, save_all=True, append_images=others, duration=durations, loop=0, quality=70, method=6)


def candidates(page: Page, chunk: int) -> None:
    """Wait until the candidates of a chunk are there, with their pictures."""
    page.until(
        f"document.querySelector('#choosing').innerText.startsWith('Candidates of chunk {chunk}') && "
        "[...document.querySelectorAll('#candidates .player')].every((each) => each.dataset.painted)"
    )


def make(page: Page, url: str, film: Film) -> list[float]:
    """Make a take of some chunks, one of them by hand; returns how soon each chunk that was kept is in the video."""
    page.open(url)
    page.until("document.querySelector('#recipe').options.length > 3")
    page.click("#prompt")
    page.type(PROMPT)
    film.shoot()
    page.click("#roll")
    seconds = []
    for chunk in range(KEPT):
        candidates(page, chunk)
        film.shoot()
        if chunk == 0:
            page.click("#candidates .best[aria-selected='false']")
            time.sleep(0.5)
            film.shoot()
        page.press("Enter")
        start = time.monotonic()
        page.until(f"document.querySelectorAll('#tree .card.path').length == {chunk + 1}")
        seconds.append(time.monotonic() - start)
    candidates(page, KEPT)
    page.press("r")
    page.until("document.querySelectorAll('#candidates .player[data-painted]').length == 4")
    film.shoot()
    return seconds


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder, browser(Path(folder) / "profile") as page:
        with served(Studio(streamt1.load(), Path(folder) / "runs")) as url:
            film = Film(page, Path(folder))
            found = make(page, url, film)
            film.save(PICTURE.with_suffix(".webp"))
            time.sleep(1)
            page.look(PICTURE, WIDTH, HEIGHT)
            for name, size, theme in (("dark", (WIDTH, HEIGHT), "dark"), ("narrow", (390, 1500), "light")):
                page.look(Path(tempfile.gettempdir()) / f"studio-{name}.png", *size, theme)
        sys.stdout.write(
            f"A chunk is seen {max(found):.2f} s after it is kept at most; {page.console or 'no errors'}\n"
        )
