"""The table and the plot of a comparison."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from training.compare import Result


def grouped(found: Sequence[Result]) -> dict[str, list[Result]]:
    """Results by label, in order: the seeds of one combination together."""
    groups: dict[str, list[Result]] = {}
    for result in found:
        groups.setdefault(result.label, []).append(result)
    return groups


def table(found: Sequence[Result]) -> str:
    """Markdown: mean and standard deviation over the seeds, the best mean in bold."""
    groups = grouped(found)
    means = {label: float(np.mean([r.value for r in rs])) for label, rs in groups.items()}
    first = found[0]
    best = (max if first.higher_is_better else min)(means.values())
    unit = f", {first.unit}" if first.unit else ""
    lines = [
        f"| | held-out {first.figure}{unit} | spread | seeds | parameters | seconds |",
        "|---|---|---|---|---|---|",
    ]
    for label, rs in groups.items():
        mean = f"{means[label]:.4f}"
        mean = f"**{mean}**" if means[label] == best else mean
        spread = f"{np.std([r.value for r in rs], ddof=1):.4f}" if len(rs) > 1 else "-"
        seconds = np.mean([r.seconds for r in rs])
        lines.append(f"| {label} | {mean} | {spread} | {len(rs)} | {rs[0].parameters:,} | {seconds:.0f} |")
    return "\n".join(lines) + "\n"


def plot(path: Path, found: Sequence[Result]) -> None:
    """Learning curves on held-out rows: mean over the seeds, bars of one standard deviation; tens of kilobytes."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib.figure import Figure

    canvas = Figure(figsize=(7, 4.5), layout="constrained")
    axes = canvas.subplots()
    key = "val_accuracy" if "val_accuracy" in found[0].history else "val_loss"
    for index, (label, rs) in enumerate(grouped(found).items()):
        curves = [r.history[key] for r in rs if key in r.history]
        if not curves:
            continue
        # Early stopping ends each seed where it likes: the mean goes as far as all do.
        shortest = min(len(curve) for curve in curves)
        values = np.array([curve[:shortest] for curve in curves])
        # Side by side, so that bars of one epoch can be told apart.
        epochs = np.arange(1, shortest + 1) + 0.06 * index
        axes.errorbar(epochs, values.mean(axis=0), yerr=values.std(axis=0), label=label, capsize=2, linewidth=1)
    axes.set(xlabel="epoch", ylabel=f"held-out {key.removeprefix('val_')}", title="Mean and spread over seeds")
    axes.legend(fontsize=7)
    canvas.savefig(path, dpi=80, metadata={"Software": None})


def write(folder: Path, found: Sequence[Result], *, command: str) -> None:
    """Write `table.md` and `curves.png`; the runs lie beside them."""
    folder.mkdir(parents=True, exist_ok=True)
    text = f"Held-out (validation) rows; spread is one standard deviation over seeds.\n\n{table(found)}\n"
    text += f"![learning curves](curves.png)\n\n```\n{command}\n```\n"
    (folder / "table.md").write_text(text, encoding="utf-8")
    plot(folder / "curves.png", found)
