"""The documentation builds as a site without warnings, holds every public name, and loads nothing from elsewhere."""

from __future__ import annotations

import re
import subprocess
import sys
from html.parser import HTMLParser
from importlib.util import find_spec
from pathlib import Path

import pytest

import streamt1_plugins as streamt1
from streamt1_plugins.api import hookspecs

DOCS = Path(__file__).parents[2] / "docs"
NEEDED = ("sphinx", "furo", "myst_parser")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not all(map(find_spec, NEEDED)), reason='needs pip install -e ".[docs]"'),
]
NAMES = {
    "public": [f"streamt1_plugins.{name}" for name in streamt1.__all__],
    "hooks": [f"streamt1_plugins.api.hookspecs.{name}" for name in vars(hookspecs) if name.startswith("streamt1_")],
    "errors": ["streamt1_plugins.errors.StreamT1Error"],
    "recipe": ["streamt1_plugins.config.schema.Recipe"],
    "policies": ["streamt1_plugins.policies.memory.RewardFeedback", "streamt1_plugins.policies.scoring.hybrid"],
    "testing": ["streamt1_plugins.testing.adapter.AdapterContract", "streamt1_plugins.testing.reward.RewardContract"],
    "rewards": ["streamt1_basic.rewards.Basic", "streamt1_clip.rewards.ClipScore", "streamt1_basic.flow.Flow"],
    "adapters": ["streamt1_wan.adapter.CausalWanAdapter", "streamt1_tinyworld.adapter.TinyWorldAdapter"],
    "seams": ["streamt1_seams.wan_vae.decode_chunk"],
}


class Loads(HTMLParser):
    """Addresses that a browser loads with a page; links to follow are not among them."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keeps `src` of any tag and `href` of `link`."""
        given = dict(attrs)
        self.addresses += [value for value in (given.get("src"), tag == "link" and given.get("href")) if value]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [
        sys.executable,
        "-m",
        "sphinx",
        "-W",
        "--keep-going",
        "-q",
        "-d",
        folder / "cache",
        DOCS,
        folder / "html",
    ]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return folder / "html"


def test_every_page_is_built(site: Path) -> None:
    pages = [path.relative_to(DOCS).with_suffix(".html") for path in DOCS.rglob("*.md") if path.name != "summary.md"]
    assert [page for page in pages if not (site / page).exists()] == []


def test_every_page_is_in_the_contents(site: Path) -> None:
    contents = re.findall(r'<a class="reference internal" href="([^"#]+)"', (site / "index.html").read_text("utf-8"))
    pages = {
        str(path.relative_to(site)) for path in site.rglob("*.html") if not path.is_relative_to(site / "_downloads")
    }
    assert pages - set(contents) - {"index.html", "search.html", "genindex.html", "py-modindex.html"} == set()


@pytest.mark.parametrize("page", NAMES)
def test_names_are_in_the_reference(page: str, site: Path) -> None:
    text = (site / "api" / f"{page}.html").read_text(encoding="utf-8")
    assert [name for name in NAMES[page] if f'id="{name}"' not in text] == []


def test_no_page_loads_anything_from_elsewhere(site: Path) -> None:
    reader = Loads()
    for path in site.rglob("*.html"):
        reader.feed(path.read_text(encoding="utf-8"))
    assert reader.addresses
    assert [address for address in reader.addresses if re.match(r"(?:https?:)?//", address)] == []
    styles = [path.read_text(encoding="utf-8") for path in site.rglob("*.css")]
    assert not any(re.search(r"(?:url\(|@import)\s*['\"]?(?:https?:)?//", style) for style in styles)


def test_links_to_files_outside_the_site_are_text(site: Path) -> None:
    text = (site / "scaling.html").read_text(encoding="utf-8")
    assert "examples/ray_prompts.py" in text
    assert 'href="../examples' not in text
