"""The types and bounds of a journal's lines: what a reader may rely on, whoever wrote the file.

Fields that this version does not have are left out, and so are events: newer versions may add some.
"""

from __future__ import annotations

import reprlib
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    TypeAdapter,
    ValidationError,
)
from typing_extensions import NotRequired, TypedDict

from streamt1_plugins.api.types import Draws, Fate, Horizon, node_id
from streamt1_plugins.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_CHUNKS, MAX_CANDIDATES = 100_000, 100_000
MAX_TEXT, MAX_DEPTH = 1_000_000, 64
SHOWN = 60
"""Characters of a wrong value that an error shows."""


def _text(limit: int) -> Any:
    """A string of at most `limit` characters; lone surrogates, which a prompt may hold, are no reason to refuse it."""

    def checked(value: Any) -> str:
        if not isinstance(value, str):
            raise ValueError("Input should be a string")
        if len(value) > limit:
            raise ValueError(f"Input should have at most {limit} characters")
        return value

    return PlainValidator(checked)


def _nested(value: Any, depth: int = MAX_DEPTH) -> Any:
    """Plain data that is nested no deeper than recursive code can follow."""
    if depth == 0:
        raise ValueError(f"Input should be nested at most {MAX_DEPTH} deep")
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        _nested(inner, depth - 1)
    return value


def _counts(what: str, limit: int) -> Callable[[str], str]:
    """A check for node ids, where both numbers of one are below `limit`."""

    def checked(name: str) -> str:
        if max(map(int, name.split("."))) >= limit:
            raise ValueError(f"Input should be the id of {what}")
        return name

    return checked


Text = Annotated[str, _text(MAX_TEXT)]
Name = Annotated[str, _text(1000)]
Time = Annotated[str, Field(max_length=64)]
Id = Annotated[str, Field(pattern=r"^\d{3,6}\.\d{2,6}$"), AfterValidator(_counts("a node", MAX_CHUNKS))]
Ids = Annotated[list[Id], Field(max_length=MAX_CANDIDATES)]
Route = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,31}$")]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{16,64}$")]
_DEVICE = r"(cpu|cuda|mps|xpu|hpu|mtia|npu|xla|meta|privateuseone)(:\d{1,4})?"
Device = Annotated[str, Field(pattern=f"^{_DEVICE}$")]
Index = Annotated[int, Field(ge=0, lt=MAX_CHUNKS)]
Count = Annotated[int, Field(ge=0, lt=2**63)]
Seed = Annotated[int, Field(ge=-(2**63), lt=2**64)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Seconds = Annotated[float, Field(ge=0, le=1e12)]
Score = Finite | None
Notes = Annotated[list[Text], Field(max_length=100_000)]
Plain = Annotated[Any, BeforeValidator(_nested)]


class Reward(TypedDict):
    """A reward in a recorded recipe, as far as a record is read without the plugins."""

    __pydantic_config__ = ConfigDict(extra="allow", strict=True)  # type: ignore[misc]
    weight: Finite
    device: NotRequired[Annotated[str, Field(pattern=f"^(auto|{_DEVICE})$")]]


class NamedPart(TypedDict):
    """A part of a recorded recipe."""

    __pydantic_config__ = ConfigDict(extra="allow", strict=True)  # type: ignore[misc]
    name: NotRequired[Name | None]


class Rewards(TypedDict):
    """The rewards of a recorded recipe."""

    __pydantic_config__ = ConfigDict(extra="allow", strict=True)  # type: ignore[misc]
    short: dict[str, Reward]
    long: dict[str, Reward]


class RecordedRecipe(TypedDict):
    """A recorded recipe, as far as everything reads it; `config.load.recorded` checks the whole."""

    __pydantic_config__ = ConfigDict(extra="allow", strict=True)  # type: ignore[misc]
    model: Text | None
    adapter: NamedPart
    rewards: Rewards


class RewardSpent(TypedDict):
    """What one reward has cost so far."""

    __pydantic_config__ = ConfigDict(strict=True)  # type: ignore[misc]
    readings: Count
    seconds: Seconds


class Spent(TypedDict, total=False):
    """The `cost` of a run so far."""

    __pydantic_config__ = ConfigDict(strict=True)  # type: ignore[misc]
    candidates: Count
    forwards: Count
    latent_frames_decoded: Count
    latent_frames_previewed: Count
    reward_calls: Count
    readings: Count
    readings_saved: Count
    seconds: Annotated[dict[str, Seconds], Field(max_length=100)]
    reward_profile: Annotated[dict[Name, RewardSpent], Field(max_length=1000)]


class Raw(TypedDict):
    """A reading of a reward."""

    __pydantic_config__ = ConfigDict(strict=True)  # type: ignore[misc]
    raw: Score
    value: Score


class Line(TypedDict):
    """What every line has."""

    __pydantic_config__ = ConfigDict(strict=True)  # type: ignore[misc]
    event: Name
    time: Time


class Place(TypedDict):
    """Where a run, or the resumed part of one, was made."""

    __pydantic_config__ = ConfigDict(strict=True)  # type: ignore[misc]
    device: Device
    device_name: NotRequired[Name | None]
    versions: Annotated[dict[str, Name], Field(max_length=1000)]


class Started(Line, Place):
    """The first line. `picked`: the node of another run that this one continues."""

    schema: int
    recipe: Annotated[RecordedRecipe, BeforeValidator(_nested)]
    recipe_name: NotRequired[Name]  # not in older journals
    prompt: Text
    seed: Seed
    call: Annotated[dict[str, Plain], BeforeValidator(_nested)]
    omitted: Annotated[list[Name], Field(max_length=1000)]
    generator_device: Device
    chunks: Annotated[int, Field(ge=1, le=MAX_CHUNKS)]
    fps: Annotated[float, Field(gt=0, le=1e6)]
    picked: NotRequired[Id]


class Varies(TypedDict):
    """How a candidate's noise was made from another one's."""

    __pydantic_config__ = ConfigDict(strict=True)  # type: ignore[misc]
    of: Id
    strength: Annotated[float, Field(ge=0, le=1)]
    draws: Draws


class Candidate(Line):
    """A candidate that was scored."""

    id: Id
    chunk: Index
    ordinal: Annotated[int, Field(ge=0, lt=MAX_CANDIDATES)]
    parent: Id | None
    seed: Seed
    propagated: bool
    rewards: dict[Horizon, Annotated[dict[str, Raw], Field(max_length=1000)]]
    short: Score
    long: Score
    score: Score
    route: Route | None
    fate: Fate | None
    rank: Annotated[int, Field(ge=0, lt=MAX_CANDIDATES)] | None
    problem: Text | None
    stage: Annotated[int, Field(ge=0, le=1000)] | None
    previewed: NotRequired[bool]
    round: NotRequired[Annotated[int, Field(ge=0, lt=MAX_CANDIDATES)]]
    varies: NotRequired[Varies]
    seconds: Seconds


class SoFar(Line):
    """What a run has to report when a chunk is committed, and at its end."""

    notes: Notes
    cost: Spent
    seconds: Seconds


class ChunkDone(SoFar):
    """A chunk whose survivors are committed. `checkpoint`: the digest of the checkpoint after it."""

    chunk: Index
    frames: Annotated[int, Field(ge=0, le=1_000_000)]
    height: NotRequired[Annotated[int, Field(ge=1, le=100_000)]]
    width: NotRequired[Annotated[int, Field(ge=1, le=100_000)]]
    kept: Ids
    pruned: Ids
    invalid: Ids
    checkpoint: NotRequired[Digest]


class Returned(SoFar):
    """The search went back from chunk `judged` to chunk `chunk`; what was made of that and after it is abandoned."""

    chunk: Index
    judged: Index
    checkpoint: NotRequired[Digest]


class Resumed(Line, Place):
    """The run continues with chunk `chunk`."""

    chunk: Annotated[int, Field(ge=0, le=MAX_CHUNKS)]


class Finished(SoFar):
    """The end of a run."""

    winner: Ids
    final: Annotated[dict[Id, Score], Field(max_length=MAX_CANDIDATES)]
    error: Text | None


_TYPES: dict[str, TypeAdapter[Any]] = {
    "started": TypeAdapter(Started),
    "candidate": TypeAdapter(Candidate),
    "chunk": TypeAdapter(ChunkDone),
    "returned": TypeAdapter(Returned),
    "resumed": TypeAdapter(Resumed),
    "finished": TypeAdapter(Finished),
}


def typed(event: dict[str, Any], where: str, *, chunks: int | None = None) -> dict[str, Any] | None:
    """The fields of an event, checked; None for an event of another kind. `chunks`: of the run, for its other lines.

    Raises `InputError` that starts with `where` and names the field.
    """
    adapter = _TYPES.get(str(event.get("event")))
    if adapter is None:
        return None
    try:
        found: dict[str, Any] = adapter.validate_python(event, strict=True)
    except ValidationError as error:
        raise InputError(f"{where}: {'; '.join(map(_problem, error.errors()[:3]))}.") from error
    for field, problem in _wrong_numbers(found, chunks):
        raise InputError(f"{where}: {field} = {_shown(event[field])}: {problem}.")
    return found


def _wrong_numbers(event: dict[str, Any], chunks: int | None) -> list[tuple[str, str]]:
    """(field, what it should be) of the numbers in an event that do not fit each other, or a run of `chunks`."""
    wrong = []
    last = chunks if event["event"] == "resumed" else None if chunks is None else chunks - 1
    if last is not None and event.get("chunk", 0) > last:
        wrong.append(("chunk", f"The run has {chunks} chunks, counted from 0"))
    if event["event"] == "returned" and not event["chunk"] <= event["judged"]:
        wrong.append(("chunk", f"The search went back from chunk {event['judged']}, to no later one"))
    if event["event"] == "candidate":
        own, parent = node_id(event["chunk"], event["ordinal"]), event["parent"]
        if event["id"] != own:
            wrong.append(("id", f"Candidate {event['ordinal']} of chunk {event['chunk']} is {own}"))
        if parent is not None and chunk_of(parent) != event["chunk"] - 1:
            wrong.append(("parent", f"A candidate of chunk {event['chunk']} continues one of the chunk before"))
        if chunk_of(event.get("varies", {"of": own})["of"]) != event["chunk"]:
            wrong.append(("varies", f"A candidate of chunk {event['chunk']} varies one of the same chunk"))
    if event["event"] == "chunk":
        for field in ("kept", "pruned", "invalid"):
            if any(chunk_of(name) != event["chunk"] for name in event[field]):
                wrong.append((field, f"Input should be ids of chunk {event['chunk']}"))
    return wrong


def chunk_of(name: str) -> int:
    """The chunk of a node, from its id."""
    return int(name.partition(".")[0])


def _problem(error: Any) -> str:
    where = _printable(".".join(str(step) for step in error["loc"]))
    if error["type"] == "missing":
        return f"{where} is missing"
    return f"{where} = {_shown(error['input'])}: {error['msg'].removeprefix('Value error, ')}"


def _shown(value: Any) -> str:
    """The beginning of a wrong value."""
    text = _printable(reprlib.repr(value))
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."


def _printable(text: str) -> str:
    """Text without characters that a terminal would obey or a stream could not encode."""
    shown = text.encode("ascii", "backslashreplace").decode()
    return "".join(each if each.isprintable() else f"\\x{ord(each):02x}" for each in shown)
