"""What the gate decided about a version before it went live, with the numbers that it decided by."""

from pydantic import BaseModel, ConfigDict, Field

from models.names import Version


class Criterion(BaseModel):
    """One thing that the new version must hold.

    Attributes:
        name: Such as ``accuracy``, ``mae``, ``parity``, ``calibration``, ``latency of 1 row``.
        passed: Whether it does.
        production: The figure of the version that is live; None where it needs none.
        candidate: The figure of the new version.
        value: What is compared with the limit, such as the upper end of a confidence interval.
        limit: Largest value that passes.
        unit: Of the figures; None for a ratio.
        sentence: The same for a person.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: str
    passed: bool
    production: float | None = None
    candidate: float | None = None
    value: float
    limit: float
    unit: str | None = None
    sentence: str


class Decision(BaseModel):
    """Whether a new version may take production's place.

    Attributes:
        production: Version that it was compared with.
        rows: Held-out rows that neither version was trained on.
        left_out: Held-out rows that one of them was trained on, or that production's schema refuses.
        margin: How much worse it may be: a share of rows for classes, a share of the error for values.
        criteria: Each with its numbers; none where the two could not be compared.
        refused: Why they could not be compared, with the remedy; empty where they were.
        forced: The reason that a person gave for promoting it whatever the gate says; empty without one.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    production: Version
    rows: int = Field(ge=0)
    left_out: int = Field(ge=0)
    margin: float = Field(gt=0)
    criteria: tuple[Criterion, ...] = ()
    refused: str = ""
    forced: str = ""

    @property
    def passed(self) -> bool:
        """Whether the two were compared and every criterion holds."""
        return not self.refused and bool(self.criteria) and all(criterion.passed for criterion in self.criteria)

    @property
    def promotes(self) -> bool:
        """Whether the new version goes live: it passed, or a person said why it must."""
        return self.passed or bool(self.forced)

    @property
    def summary(self) -> str:
        """One line for the audit log."""
        failed = [criterion.name for criterion in self.criteria if not criterion.passed]
        if self.passed:
            found = f"gate passed: {len(self.criteria)} criteria on {self.rows} rows"
        else:
            found = f"gate refused: {self.refused or ', '.join(failed)}"
        return f"forced: {self.forced} ({found})" if self.forced else found
