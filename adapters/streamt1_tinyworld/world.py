"""The captions of the moving-shapes world, which `scene.py` renders.

A caption names colours, shapes, motions and a background; size, tint, shading and place are drawn per clip and never
named, so memory and drift can be measured. "moving" things leave the frame on one side and return on the other, which
keeps their direction measurable for minutes; "bouncing" ones are reflected at the borders.
"""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

SIZE = 64  # pixels, width and height
FPS = 16
HELD_OUT = 0.2  # share of the (background, colour, shape, motion) combinations kept for testing
MAX_THINGS = 2

COLOURS = MappingProxyType(
    {
        "red": (225, 40, 40),
        "green": (50, 200, 70),
        "blue": (50, 90, 240),
        "yellow": (240, 220, 50),
        "orange": (245, 140, 30),
        "purple": (160, 60, 210),
        "cyan": (50, 210, 220),
        "white": (250, 250, 250),
    }
)
BACKGROUNDS = MappingProxyType(
    {
        "black": (16, 16, 20),
        "gray": (110, 110, 115),
        "white": (232, 232, 228),
        "blue": (28, 44, 120),
        "green": (24, 92, 56),
        "brown": (104, 66, 36),
    }
)
DIRECTIONS = MappingProxyType({"right": (1, 0), "left": (-1, 0), "down": (0, 1), "up": (0, -1)})
MOTIONS = (*DIRECTIONS, "bouncing")
SPEEDS = MappingProxyType({"slowly": (0.45, 0.65), "quickly": (1.25, 1.6)})  # pixels per frame
SHAPES = ("circle", "square", "triangle", "star")
SYNONYMS = MappingProxyType({"slow": "slowly", "fast": "quickly", "bounces": "bouncing"})
FILLERS = frozenset(
    ["a", "an", "the", "is", "and", "on", "over", "moving", "gliding", "going", "moves", "background", "shape", "thing"]
)
WORDS = (*sorted(FILLERS), *SYNONYMS, *dict.fromkeys((*COLOURS, *BACKGROUNDS, *SHAPES, *MOTIONS, *SPEEDS)))
VOCABULARY = MappingProxyType(
    {
        "shapes": SHAPES,
        "colours": tuple(COLOURS),
        "backgrounds": tuple(BACKGROUNDS),
        "motions": MOTIONS,
        "speeds": tuple(SPEEDS),
        "other words": (*SYNONYMS, *sorted(FILLERS)),
    }
)
"""All words by kind, for people."""


@dataclass(frozen=True)
class Thing:
    """One object of a caption; None where the caption leaves it open."""

    colour: str | None = None
    shape: str | None = None
    motion: str | None = None
    speed: str | None = None


@dataclass(frozen=True)
class Spec:
    """Contents of a caption: the background's name and its things, in the caption's order (later ones lie on top)."""

    background: str | None = None
    things: tuple[Thing, ...] = ()


def sample(rng: random.Random, things: int = 1) -> Spec:
    """A complete spec, whose things differ in colour from each other and from the background."""
    background = rng.choice(list(BACKGROUNDS))
    colours = rng.sample([name for name in COLOURS if name != background], things)
    return Spec(
        background,
        tuple(Thing(c, rng.choice(SHAPES), rng.choice(MOTIONS), rng.choice(list(SPEEDS))) for c in colours),
    )


def sample_split(split_name: str, n: int, rng: random.Random, two: float = 0.0) -> list[Spec]:
    """`n` complete specs of one split; a share `two` of them has two things."""
    found: list[Spec] = []
    while len(found) < n:
        spec = sample(rng, 2 if rng.random() < two else 1)
        if split(spec) == split_name:
            found.append(spec)
    return found


def split(spec: Spec) -> str:
    """`test` if any thing of the spec on its background is held out, else `train`, whatever the speed."""
    return "test" if any(_bucket(spec.background, thing) < HELD_OUT for thing in spec.things) else "train"


def _bucket(background: str | None, thing: Thing) -> float:
    key = f"{background}|{thing.colour}|{thing.shape}|{thing.motion}"
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=4).digest(), "big") / 2**32


def prompts(split_name: str, n: int, seed: int, things: int = 1) -> list[str]:
    """`n` different canonical captions of a split, every attribute named, the same for the same seed."""
    rng, found = random.Random(f"prompts {seed} {things}"), dict[str, None]()
    while len(found) < n:
        spec = sample(rng, things)
        if split(spec) == split_name:
            found[caption(spec)] = None
    return list(found)


def forget(spec: Spec, rng: random.Random, speed: float = 0.25, other: float = 0.03) -> Spec:
    """The spec with some attributes left open: speeds with probability `speed`, background and motions with `other`."""

    def open_thing(thing: Thing) -> Thing:
        return replace(
            thing,
            speed=None if rng.random() < speed else thing.speed,
            motion=None if rng.random() < other else thing.motion,
        )

    background = None if rng.random() < other else spec.background
    return Spec(background, tuple(open_thing(thing) for thing in spec.things))


def caption(spec: Spec, rng: random.Random | None = None) -> str:
    """The canonical caption of a spec, or with `rng` one of its paraphrases; open attributes are not mentioned."""

    def choose(*options: str) -> str:
        return options[0] if rng is None else rng.choice(options)

    text = " and ".join(_describe(thing, choose) for thing in spec.things)
    if spec.background is None:
        return text
    if not spec.things:
        return f"{choose('a', 'a', 'the')} {spec.background} background"
    return f"{text} {choose('on', 'on', 'over')} a {spec.background} background"


def _describe(thing: Thing, choose: Callable[..., str]) -> str:
    article = "an" if thing.colour == "orange" else "a"
    words = [choose(article, article, "the"), thing.colour, thing.shape or "shape"]
    if thing.motion == "bouncing":
        words.append("bouncing")
    elif thing.motion:
        words += [choose("moving", "moving", "gliding", "going"), thing.motion]
    if thing.speed:
        words.append(choose(thing.speed, thing.speed, {"slowly": "slow", "quickly": "fast"}[thing.speed]))
    return " ".join(word for word in words if word)


def parse(prompt: str) -> Spec:
    """Contents of a prompt. Raises `ValueError` for words outside the vocabulary and for contradictions."""
    words = [SYNONYMS.get(word, word) for word in re.findall(r"[^\W\d_]+", prompt.lower())]
    unknown = [word for word in words if word not in WORDS]
    if unknown:
        raise ValueError(f"unknown words {', '.join(unknown)}; the moving-shapes world has {', '.join(WORDS)}")
    background = None
    if "background" in words:
        at = words.index("background")
        background = words[at - 1] if at else ""
        if background not in BACKGROUNDS:
            raise ValueError(f"{background!r} is not a background; backgrounds are {', '.join(BACKGROUNDS)}")
        del words[at - 1 : at + 1]
    things = tuple(thing for thing in map(_read_thing, _clauses(words)) if thing != Thing())
    if len(things) > MAX_THINGS:
        raise ValueError(f"at most {MAX_THINGS} things, not {len(things)}")
    return Spec(background, things)


def _clauses(words: Sequence[str]) -> Iterable[list[str]]:
    clause: list[str] = []
    for word in words:
        if word == "and":
            yield clause
            clause = []
        else:
            clause.append(word)
    yield clause


def _read_thing(words: Iterable[str]) -> Thing:
    vocabulary = {"colour": COLOURS, "shape": SHAPES, "motion": MOTIONS, "speed": SPEEDS}
    said: dict[str, str] = {}
    for word in words:
        kind = next((kind for kind, known in vocabulary.items() if word in known), None)
        if kind is None and word not in FILLERS:
            raise ValueError(f"{word!r} cannot describe a thing; colours are {', '.join(COLOURS)}")
        if kind is not None and said.setdefault(kind, word) != word:
            raise ValueError(f"one thing cannot be both {said[kind]!r} and {word!r}")
    return Thing(**said)
