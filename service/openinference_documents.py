"""What the Open Inference Protocol says of server and models, as the JSON form of its messages: for HTTP and gRPC."""

from typing import Any

from service.loader import Loader
from service.protocols.base import Pin
from service.protocols.signature import inputs_of, outputs_of
from service.protocols.tensors import BYTES, Spec
from service.release import release
from service.served import Served
from service.states import State, states

_NAME = "keras-serving"
EXTENSIONS = ("classification", "model_configuration", "schedule_policy", "statistics")
"""Of the protocol, over HTTP as over gRPC."""


def server_document(*more: str) -> dict[str, Any]:
    """``ServerMetadataResponse``; ``more`` are further extensions."""
    return {"name": _NAME, "version": release(), "extensions": sorted((*EXTENSIONS, *more))}


def model_document(loader: Loader, served: Served) -> dict[str, Any]:
    """``ModelMetadataResponse``."""
    task = served.manifest.task
    return {
        "name": served.manifest.name,
        "versions": [state.version for state in states(loader, served.manifest.name) if state.served],
        "platform": served.engine.name,
        "inputs": [_tensor(spec) for spec in inputs_of(task)],
        "outputs": [_tensor(spec) for spec in outputs_of(task)],
    }


def config_document(served: Served, max_rows: int) -> dict[str, Any]:
    """``ModelConfig``, as far as clients look at it."""
    task = served.manifest.task
    return {
        "name": served.manifest.name,
        "platform": served.engine.name,
        "max_batch_size": max_rows,
        "input": [_configured(spec) for spec in inputs_of(task)],
        "output": [_configured(spec) for spec in outputs_of(task)],
        "dynamic_batching": {},
    }


def statistics_documents(loader: Loader, name: str = "", pin: Pin | None = None) -> list[dict[str, Any]]:
    """``ModelStatistics`` of a model's version, of all its loaded ones, or without a name of every model.

    Raises:
        ServingError: As `Loader.find` and `states`.
    """
    if name and pin:
        chosen = [loader.find(name, pin)]
    else:
        names = [name] if name else sorted(loader.served)
        chosen = [state.served for one in names for state in states(loader, one) if state.served]
    return [served.statistics.document(served.manifest.name, served.manifest.version) for served in chosen]


def index_documents(loader: Loader, *, only_ready: bool = False) -> list[dict[str, str]]:
    """``ModelIndex`` of each version of each model."""
    names = sorted({*loader.served, *loader.failures})
    found = [_indexed(name, state) for name in names for state in states(loader, name)]
    return [one for one in found if one["state"] == "READY" or not only_ready]


def _tensor(spec: Spec) -> dict[str, Any]:
    return {"name": spec.name, "datatype": spec.datatype, "shape": spec.shape}


def _configured(spec: Spec) -> dict[str, Any]:
    """A tensor as a model's configuration has it: without the batch axis."""
    kind = "STRING" if spec.datatype == BYTES else spec.datatype
    return {"name": spec.name, "data_type": f"TYPE_{kind}", "dims": spec.shape[1:]}


def _indexed(name: str, state: State) -> dict[str, str]:
    ready = "READY" if state.served else "UNAVAILABLE" if state.reason else "LOADING"
    return {"name": name, "version": state.version, "state": ready, "reason": "" if state.served else state.reason}
