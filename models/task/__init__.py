"""What a model's numbers mean: from parsed values to rows, and from an output row to an answer that a person reads.

| kind | input rows | output rows |
|---|---|---|
| image_classification | uint8 (n, height, width, channels), 0-255 | float32 (n, classes): probabilities |
| tabular_regression | float32 (n, fields), raw units; a category is its index | float32 (n, 3): value, low, high |
| tabular_classification | as above | float32 (n, labels): probabilities |
| sequence_forecast | float32 (n, lookback, channels), raw units | float32 (n, horizon, 3): value, low, high |
| sequence_classification | as above | float32 (n, labels): probabilities |

A value that is missing where it may be is NaN in a row. A new kind is one more file here and one more member of `Task`.
"""

from typing import Annotated

from pydantic import Field

from models.task.base import BaseTask
from models.task.classes import Classes
from models.task.fields import Category, Number
from models.task.image import ImageClassification
from models.task.records import Records
from models.task.sequence import SequenceForecast
from models.task.sequence_classification import SequenceClassification
from models.task.sequences import Sequences
from models.task.tabular import TabularRegression
from models.task.tabular_classification import TabularClassification

Task = Annotated[
    ImageClassification | TabularRegression | TabularClassification | SequenceForecast | SequenceClassification,
    Field(discriminator="kind"),
]

__all__ = [
    "BaseTask",
    "Category",
    "Classes",
    "ImageClassification",
    "Number",
    "Records",
    "SequenceClassification",
    "SequenceForecast",
    "Sequences",
    "TabularClassification",
    "TabularRegression",
    "Task",
]
