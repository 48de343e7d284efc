"""JSON schemas of what a task takes and answers, for the OpenAPI document."""

from typing import Any

from models.task import Category, Classes, ImageClassification, Number, Records, SequenceForecast, Task


def instance(task: Task) -> dict[str, Any]:
    """JSON schema of one instance."""
    if isinstance(task, ImageClassification):
        pixel: dict[str, Any] = {"type": "number", "minimum": 0, "maximum": 255, "multipleOf": 1}
        if task.channels > 1:
            pixel = {"type": "array", "items": pixel, "minItems": task.channels, "maxItems": task.channels}
        line = {"type": "array", "items": pixel, "minItems": task.width, "maxItems": task.width}
        array = {"type": "array", "items": line, "minItems": task.height, "maxItems": task.height}
        picture = {
            "type": "object",
            "properties": {"b64": {"type": "string", "contentEncoding": "base64", "description": "PNG or JPEG"}},
            "required": ["b64"],
            "additionalProperties": False,
        }
        return {"oneOf": [picture, array]}
    if isinstance(task, Records):
        properties = {field.name: _field(field) for field in task.fields}
        names = list(properties)
        required = [field.name for field in task.fields if not field.missing]
        record = {"type": "object", "properties": properties, "required": required, "additionalProperties": False}
        values = {
            "type": "array",
            "prefixItems": [properties[name] for name in names],
            "minItems": len(names),
            "maxItems": len(names),
        }
        return {"oneOf": [record, values]}
    steps: list[dict[str, Any]] = [{"type": "number", "minimum": c.low, "maximum": c.high} for c in task.channels]
    step = {"type": "array", "prefixItems": steps, "minItems": len(steps), "maxItems": len(steps)}
    return {
        "type": "array",
        "items": {"oneOf": [steps[0], step]} if len(steps) == 1 else step,
        "minItems": task.lookback,
        "description": f"Steps of {task.step}, oldest first; the most recent {task.lookback} count.",
    }


def _field(field: Number | Category) -> dict[str, Any]:
    """JSON schema of one value of a record."""
    if isinstance(field, Category):
        values = [*field.values, None] if field.missing else list(field.values)
        return {"type": ["string", "null"] if field.missing else "string", "enum": values}
    unit = f" ({field.unit})" if field.unit else ""
    return {
        "type": ["number", "null"] if field.missing else "number",
        "minimum": field.low,
        "maximum": field.high,
        "description": field.description + unit,
    }


def prediction(task: Task) -> dict[str, Any]:
    """JSON schema of one prediction."""
    number: dict[str, Any] = {"type": "number"}
    if isinstance(task, Classes):
        properties: dict[str, Any] = {
            "label": {"type": "string", "enum": list(task.labels)},
            "class_id": {"type": "integer", "minimum": 0, "maximum": len(task.labels) - 1},
            "confidence": {"type": "number", "minimum": 0, "maximum": 1},
            "probabilities": {"type": "object", "additionalProperties": number},
        }
        if isinstance(task, ImageClassification):
            steps = {"type": "array", "items": {"type": "string"}, "description": "Steps of picture preparation."}
            properties["applied"] = steps
        required = ["label", "class_id", "confidence", "probabilities"]
    elif isinstance(task, SequenceForecast):
        series = {"type": "array", "items": number, "minItems": task.horizon, "maxItems": task.horizon}
        properties = dict.fromkeys(("forecast", "low", "high"), series) | {
            "unit": {"const": task.unit},
            "step": {"const": task.step},
        }
        required = list(properties)
    else:
        properties = dict.fromkeys(("value", "low", "high"), number) | {"unit": {"const": task.unit}}
        required = list(properties)
    return {"type": "object", "properties": properties, "required": required}
