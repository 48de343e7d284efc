"""A recent stretch of a series in, class probabilities out."""

from typing import Literal

from models.task.classes import Classes
from models.task.sequences import Sequences


class SequenceClassification(Sequences, Classes):
    """One stretch a row; one probability a label of its last step, also where there are only two."""

    kind: Literal["sequence_classification"] = "sequence_classification"
