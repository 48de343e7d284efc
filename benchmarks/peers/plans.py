"""How much is measured: presets, and the steps that they come to."""

from dataclasses import dataclass

from benchmarks.peers import contenders as who

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
    schedules: int
    minutes: float

    def seeds(self, number: int) -> tuple[int, ...]:
        """Of the schedules of one round, the first of which is 1: the same for every server."""
        return tuple(range(self.schedules * (number - 1) + 1, self.schedules * number + 1))


_EVERY = (1, 8, 32, 64, 256)
_FRONT = (who.OURS, who.LIMIT, who.MOSEC, who.TRITON_BINARY)
FULL = Preset(
    rounds=3,
    seconds=1.5,
    warm_up_s=0.3,
    connections={"dnn": _EVERY, "small": _EVERY, "cnn": (1, 32)},
    open_loop={"small": (*(name for name in ALL if name != who.PLAIN), *WIDE), "dnn": _FRONT},
    open_once=(who.STOCK, who.TUNED, who.LITSERVE),
    open_seconds=3.0,
    schedules=2,
    minutes=40,
)
QUICK = Preset(
    rounds=1,
    seconds=0.8,
    warm_up_s=0.3,
    connections={"dnn": (1, 32), "small": (1, 32)},
    open_loop={"small": _FRONT},
    open_once=(),
    open_seconds=1.5,
    schedules=2,
    minutes=8,
)
PRESETS = {"full": FULL, "quick": QUICK}


@dataclass(frozen=True)
class Step:
    """One server started once, and what is measured of it.

    Attributes:
        kind: ``closed``, ``open``, ``formats`` or ``workers``.
        model: Name of the bundle.
        contender: Name in the report.
        number: Of the round, from 1.
    """

    kind: str
    model: str
    contender: str
    number: int

    @property
    def key(self) -> str:
        """In the record."""
        return "|".join((self.kind, self.model, self.contender, str(self.number)))


def steps(preset: Preset) -> list[Step]:
    """Everything, in order: in each round the search in open loop, which needs to know where to look, comes last."""
    found = []
    for number in range(1, preset.rounds + 1):
        for part in (_closed(preset, number), _open(preset, number)):
            found += part if number % 2 else part[::-1]
    return found


def _open(preset: Preset, number: int) -> list[Step]:
    pairs = [(model, name) for model, names in preset.open_loop.items() for name in names]
    return [Step("open", model, name, number) for model, name in pairs if number == 1 or name not in preset.open_once]


def _closed(preset: Preset, number: int) -> list[Step]:
    pairs = [(model, name) for model in preset.connections for name in (*ALL, *(WIDE if model in WIDE_MODELS else ()))]
    found = [Step("closed", model, name, number) for model, name in pairs]
    found += [Step("workers", WORKERS_MODEL, name, number) for name in (who.OURS, who.MOSEC)]
    found.append(Step("formats", FORMAT_MODEL, who.OURS, number))
    return found
