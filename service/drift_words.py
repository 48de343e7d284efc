"""What moved, and by how much, in words."""

from service.drift import Report
from service.drift_counts import NONE, Shift

# Feature that is no field of the user's own -> its subject, and what more and less of it are called.
_WORDS = {
    "pixel_intensity": ("pixels are", "brighter", "darker"),
    "picture_mean": ("pictures are", "brighter", "darker"),
    "picture_spread": ("the contrast is", "higher", "lower"),
    "picture_centre_x": ("the brightness lies", "further right", "further left"),
    "picture_centre_y": ("the brightness lies", "further down", "further up"),
    "picture_width": ("the brightness is spread", "wider", "narrower"),
    "picture_height": ("the brightness is spread", "taller", "less tall"),
    "confidence": ("the model is", "surer", "less sure"),
    "value": ("predicted values are", "higher", "lower"),
    "interval_width": ("intervals are", "wider", "narrower"),
}
_ANY = ("values are", "higher", "lower")
# A mean that moved by less, or a spread that changed by less, is not what moved a feature.
_MEAN_MOVED = 0.1
_SPREAD_CHANGED = 1.2


def summary(report: Report) -> str:
    """One sentence for a person."""
    if not report.enough:
        return f"{report.rows:,} rows so far; {report.least_rows:,} are needed before drift can be spoken of."
    moved = [shift for shift in report.shifts if shift.state != NONE]
    if not moved:
        return "Requests and answers are spread as in training."
    text = "; ".join(words(shift) for shift in moved[:3])
    return text + (f"; and {len(moved) - 3} more" if len(moved) > 3 else "") + "."


def words(shift: Shift) -> str:
    """How a feature moved, and how much that is."""
    return f"{shift.name}: {_movement(shift)}; PSI {shift.psi:.2f}, {shift.state}"


def _movement(shift: Shift) -> str:
    if shift.missing and abs(shift.now[-1] - shift.before[-1]) > max(
        abs(new - old) for old, new in zip(shift.before[:-1], shift.now[:-1], strict=True)
    ):
        return f"{shift.now[-1]:.0%} are missing, in training {shift.before[-1]:.0%}"
    if shift.means is None or shift.deviations is None:
        return _most_changed(shift)
    (old, new), (narrow, wide) = shift.means, shift.deviations
    subject, more, less = _WORDS.get(shift.name, _ANY)
    unit = f" {shift.unit}" if shift.unit else ""
    if abs(new - old) > _MEAN_MOVED * narrow:
        by = f"{_number(abs(new - old))}{unit} {more if new > old else less}"
        return f"{subject} {by} than in training (mean {_number(old)} -> {_number(new)})"
    if max(wide, narrow) > _SPREAD_CHANGED * min(wide, narrow):
        than = "further apart" if wide > narrow else "closer together"
        return f"values lie {than} than in training (standard deviation {_number(narrow)} -> {_number(wide)})"
    return _most_changed(shift)


def _most_changed(shift: Shift) -> str:
    """The bin whose share changed most."""
    bins = len(shift.before) - shift.missing
    best = max(range(bins), key=lambda i: abs(shift.now[i] - shift.before[i]))
    if shift.vocabulary:
        what = shift.vocabulary[best]
    else:
        unit = f" {shift.unit}" if shift.unit else ""
        what = f"{_number(shift.edges[best])} to {_number(shift.edges[best + 1])}{unit}"
    return f"{what} is {shift.now[best]:.0%} of the rows, in training {shift.before[best]:.0%}"


def _number(value: float) -> str:
    """Three digits, all of a large one's, with thousands apart."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
