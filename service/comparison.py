"""``GET /models/{model}/compare``: what shadowing has shown so far, over all workers."""

from typing import Any

from models.store import CANDIDATE
from service.metrics import SHADOW_RESULTS
from service.runtime import Runtime
from service.shadow import TOLERANCE


def comparison(runtime: Runtime, name: str) -> dict[str, Any]:
    """The sums over all workers, and what follows from them; reads every worker's metrics, so call it in a thread."""
    loader = runtime.loader
    target = loader.document.target(name, CANDIDATE)
    traffic = loader.document.traffic.get(name)
    found = runtime.metrics.shadow(name)
    rows = {result: int(found.get(f"rows_{result}", 0)) for result in SHADOW_RESULTS}
    compared, batches = rows["agreed"] + rows["differed"], found.get("batches", 0)
    production, candidate = (found.get(f"seconds_{alias}", 0) for alias in ("production", "candidate"))
    return {
        "model": name,
        "production": loader.find(name).manifest.version,
        "candidate": target.version if target else None,
        "shadow": bool(traffic and traffic.shadow),
        "rows": {"compared": compared, **rows},
        "agreement": rows["agreed"] / compared if compared else None,
        "agreement_tolerance": f"the same class, or values within {TOLERANCE:g} of the interval's width",
        "distance": {
            "mean": found.get("distance", 0) / compared if compared else None,
            "max": found.get("distance_max") if compared else None,
        },
        "batch_latency_ms": {
            "production": 1000 * production / batches if batches else None,
            "candidate": 1000 * candidate / batches if batches else None,
        },
    }
