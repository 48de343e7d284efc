"""What a client of one version would notice of another: the changes that need its consent."""

from itertools import zip_longest

from models.task import Category, Classes, ImageClassification, Number, Records, SequenceForecast, Sequences, Task


def breaking(old: Task, new: Task) -> list[str]:
    """Why requests or answers that were good with ``old`` would not be so with ``new``; empty where none is.

    A wider range, another value at a vocabulary's end or a value that may be missing now breaks nothing.
    """
    if old.kind != new.kind:
        return [f"{old.kind} became {new.kind}"]
    found = []
    if isinstance(old, Records) and isinstance(new, Records):
        found += _fields(old.fields, new.fields)
        found += _one("target", old.target, new.target)
    if isinstance(old, Classes) and isinstance(new, Classes):
        found += _one("labels", list(old.labels), list(new.labels))
    if isinstance(old, ImageClassification) and isinstance(new, ImageClassification):
        found += _one("picture", old.input_shape, new.input_shape)
        found += _one("preparation", old.preparation, new.preparation)
    if isinstance(old, Sequences) and isinstance(new, Sequences):
        found += _fields(old.channels, new.channels)
        found += _one("step", old.step, new.step)
        if new.lookback > old.lookback:
            found += _one("lookback", old.lookback, new.lookback)
    if isinstance(old, SequenceForecast) and isinstance(new, SequenceForecast):
        for what in ("target", "horizon"):
            found += _one(what, getattr(old, what), getattr(new, what))
    for what in ("unit", "coverage"):
        found += _one(what, getattr(old, what, None), getattr(new, what, None))
    return found


def _one(what: str, old: object, new: object) -> list[str]:
    return [] if old == new else [f"{what} {old!r} became {new!r}"]


def _fields(old: tuple[Number | Category, ...], new: tuple[Number | Category, ...]) -> list[str]:
    found = []
    for before, now in zip_longest(old, new):
        if before is None or now is None or before.name != now.name:
            names = [[field.name for field in fields] for fields in (old, new)]
            return _one("fields", *names)
        name = before.name
        if before.missing and not now.missing:
            found.append(f"{name} may not be missing any more")
        if isinstance(before, Number) and isinstance(now, Number):
            found += _one(f"unit of {name}", before.unit, now.unit)
            if now.low > before.low or now.high < before.high:
                found.append(
                    f"the range of {name}, {before.low:g} to {before.high:g}, became {now.low:g} to {now.high:g}"
                )
        elif isinstance(before, Category) and isinstance(now, Category):
            if now.values[: len(before.values)] != before.values:
                found.append(f"the values of {name} became {', '.join(now.values[:20])}")
        else:
            found.append(f"{name}, a {before.kind}, became a {now.kind}")
    return found
