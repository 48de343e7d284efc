"""How much is measured: presets, and the steps that they come to."""

from dataclasses import dataclass

from benchmarks.peers import contenders as who
from benchmarks.turns import Turns

ALL = (
    *(who.OURS, who.LIMIT, who.STOCK, who.PLAIN, who.TUNED, who.LITSERVE, who.MOSEC, who.TRITON_JSON),
    who.TRITON_BINARY,
)
# Where the network is a good part of a request's time.
WIDE = (who.WIDE_MOSEC, who.WIDE_TRITON)
WIDE_MODELS = ("small", "cnn")
EVERYBODY = (*ALL, *WIDE)
FORMATS = ("instances", "npy", "png", "v2 json", "v2 binary")
ROWS = (1, 32)
FORMAT_CONNECTIONS = 32
FORMAT_MODEL = "dnn"
WORKERS_MODEL = "small"


@dataclass(frozen=True)
class Preset:
    """How much is measured.

    Attributes:
        rounds: Each starts every server anew, in closed and in open loop; the order turns round from one to the next.
        seconds: Of one closed-loop run, after ``warm_up_s``.
        connections: Model -> kept-alive connections of the closed loop.
        open_loop: Model -> who is searched for its highest rate in open loop.
        open_once: Who of them is so far from the best that one round is enough.
        open_seconds: Of one schedule.
        turns: Model -> loads under which `front` takes short turns, all up at once.
        format_rounds: In each of which every format has a short turn.
        schedules: Of one round; each round has others.
        minutes: No step is begun after as many.
    """

    rounds: int
    seconds: float
    warm_up_s: float
    connections: dict[str, tuple[int, ...]]
    open_loop: dict[str, tuple[str, ...]]
    open_once: tuple[str, ...]
    open_seconds: float
    turns: dict[str, Turns]
    format_rounds: int
    schedules: int
    minutes: float

    def seeds(self, number: int) -> tuple[int, ...]:
        """Of the schedules of one round, the first of which is 1: the same for every server."""
        return tuple(range(self.schedules * (number - 1) + 1, self.schedules * number + 1))


_EVERY = (1, 8, 32, 64, 256)
_SEARCHED = (who.OURS, who.LIMIT, who.MOSEC, who.TRITON_BINARY)
_LEVELS = tuple(("closed", float(count)) for count in _EVERY)
_RATES = tuple(("open", rate) for rate in (2000.0, 3000.0, 4000.0))
FULL = Preset(
    rounds=3,
    seconds=1.5,
    warm_up_s=0.3,
    connections={"dnn": _EVERY, "small": _EVERY, "cnn": (1, 32)},
    open_loop={"small": (*(name for name in ALL if name != who.PLAIN), *WIDE), "dnn": _SEARCHED},
    open_once=(who.STOCK, who.TUNED, who.LITSERVE),
    open_seconds=3.0,
    turns={
        "small": Turns((*_LEVELS, *_RATES), rounds=4, starts=3),
        "cnn": Turns(_LEVELS, rounds=3, starts=3),
        "dnn": Turns(_LEVELS, rounds=3, starts=3),
    },
    format_rounds=16,
    schedules=2,
    minutes=70,
)
QUICK = Preset(
    rounds=1,
    seconds=0.8,
    warm_up_s=0.3,
    connections={"dnn": (1, 32), "small": (1, 32)},
    open_loop={"small": _SEARCHED},
    open_once=(),
    open_seconds=1.5,
    turns={"small": Turns((("closed", 1.0), ("closed", 32.0), ("open", 3000.0)), rounds=4)},
    format_rounds=4,
    schedules=2,
    minutes=8,
)
PRESETS = {"full": FULL, "quick": QUICK}


@dataclass(frozen=True)
class Step:
    """What is measured of one server, or of those that take short turns.

    Attributes:
        kind: ``closed``, ``open``, ``turns``, ``formats`` or ``workers``.
        model: Name of the bundle.
        contender: Name in the report; ours for all that take turns.
        number: Of the round, from 1; the short turns come after the last.
    """

    kind: str
    model: str
    contender: str
    number: int

    @property
    def key(self) -> str:
        """In the record."""
        return "|".join((self.kind, self.model, self.contender, str(self.number)))


def front(model: str) -> tuple[str, ...]:
    """Ours, and the fastest of the others: those that take short turns."""
    return (who.OURS, who.MOSEC, who.TRITON_BINARY, *(WIDE if model in WIDE_MODELS else (who.LIMIT,)))


def steps(preset: Preset) -> list[Step]:
    """Everything, in order: in each round the search in open loop, which needs to know where to look, comes last."""
    found = []
    for number in range(1, preset.rounds + 1):
        for part in (_closed(preset, number), _open(preset, number)):
            found += part if number % 2 else part[::-1]
    last = preset.rounds + 1
    found.append(Step("formats", FORMAT_MODEL, who.OURS, last))
    return found + [Step("turns", model, who.OURS, last) for model in preset.turns]


def _open(preset: Preset, number: int) -> list[Step]:
    pairs = [(model, name) for model, names in preset.open_loop.items() for name in names]
    return [Step("open", model, name, number) for model, name in pairs if number == 1 or name not in preset.open_once]


def _closed(preset: Preset, number: int) -> list[Step]:
    pairs = [(model, name) for model in preset.connections for name in (*ALL, *(WIDE if model in WIDE_MODELS else ()))]
    found = [Step("closed", model, name, number) for model, name in pairs]
    found += [Step("workers", WORKERS_MODEL, name, number) for name in (who.OURS, who.MOSEC)]
    return found
