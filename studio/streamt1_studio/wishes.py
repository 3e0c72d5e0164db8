"""What a page may send: a few bounded fields for each wish, and nothing else."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from streamt1_plugins.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable

    from streamt1_studio.hand import Hand

LONGEST = 4000
"""Characters of a prompt."""

_NO_TEXT = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ufffe\uffff]")


def _text(value: str) -> str:
    if _NO_TEXT.search(value) or not value.strip():
        raise ValueError("expected text, without control characters")
    return value.strip()


Prompt = Annotated[str, Field(max_length=LONGEST), AfterValidator(_text)]
Name = Annotated[str, Field(max_length=200)]
Node = Annotated[str, Field(pattern=r"^[0-9]{3,6}\.[0-9]{2,6}$")]


class Wish(BaseModel):
    """A wish with exactly its fields, of exactly their types."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Start(Wish):
    """A new take."""

    prompt: Prompt
    recipe: Name
    seed: Annotated[int, Field(ge=0, lt=2**53)]
    frames: Annotated[int, Field(ge=1, le=100_000)] | None = None
    play: bool = False


class Price(Wish):
    """The cost of a take that is not begun."""

    prompt: Annotated[str, Field(max_length=LONGEST)] = ""
    recipe: Name
    frames: Annotated[int, Field(ge=1, le=100_000)] | None = None


class Branch(Wish):
    """A new take that continues this candidate of a recorded run."""

    node: Node


class Play(Wish):
    """The policy decides from now on, or a person again."""

    on: bool


class Keep(Wish):
    """Continue with this candidate of the open chunk, or, without one, with what the recipe prefers."""

    node: Node | None = None

    def job(self) -> tuple[str, Callable[[Hand], None]]:
        """Its name, and the work."""
        return f"Keeping {self.node or 'the best'}", lambda hand: hand.keep(self.node)


class Reroll(Wish):
    """More candidates for the open chunk: fresh ones, or variations of `refine`."""

    count: Annotated[int, Field(ge=1, le=64)] | None = None
    refine: Node | None = None

    def job(self) -> tuple[str, Callable[[Hand], None]]:
        """Its name, and the work."""
        what = f"Refining {self.refine}" if self.refine else "Rolling more candidates"
        return what, lambda hand: hand.reroll(self.count, self.refine)


class Back(Wish):
    """Go back to a chunk, and choose again there."""

    chunk: Annotated[int, Field(ge=0, le=100_000)]

    def job(self) -> tuple[str, Callable[[Hand], None]]:
        """Its name, and the work."""
        return f"Going back to chunk {self.chunk}", lambda hand: hand.back_to(self.chunk)


class NewPrompt(Wish):
    """Another prompt from the open chunk on."""

    text: Prompt
    memory: Literal["keep", "recache", "flush"] = "flush"

    def job(self) -> tuple[str, Callable[[Hand], None]]:
        """Its name, and the work."""
        return "Changing the prompt", lambda hand: hand.prompt(self.text, self.memory)


class Nothing(Wish):
    """A wish without fields."""


class Park(Nothing):
    """Save the take and give the model up."""

    def job(self) -> tuple[str, Callable[[Hand], None]]:
        """Its name, and the work."""
        return "Saving", lambda hand: hand.park()


class Finish(Nothing):
    """Write the video of a take whose chunks are all kept."""

    def job(self) -> tuple[str, Callable[[Hand], None]]:
        """Its name, and the work."""
        return "Writing the video", lambda hand: hand.finish()


JOBS: dict[str, type[Any]] = {
    "keep": Keep,
    "reroll": Reroll,
    "back": Back,
    "prompt": NewPrompt,
    "park": Park,
    "finish": Finish,
}
"""What may be wanted of an open take, by the last part of the address."""


def read(kind: type[Any], body: bytes) -> Any:
    """The wish in a body. Raises `InputError` for anything else."""
    try:
        return kind.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(map(str, first["loc"])) or "the body"
        raise InputError(f"{where[:80]}: {first['msg']}") from None
