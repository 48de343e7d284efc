"""Records in, class probabilities out."""

from typing import Literal

from models.task.classes import Classes
from models.task.records import Records


class TabularClassification(Records, Classes):
    """One record a row; one probability a label, also where there are only two."""

    kind: Literal["tabular_classification"] = "tabular_classification"
