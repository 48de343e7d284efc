"""What `kubectl kustomize` makes of a folder, as far as the folders of deploy/kubernetes use it.

test_kubernetes.py compares it with kubectl's own answer where there is a kubectl.
"""

from pathlib import Path
from typing import Any

import yaml

Resource = dict[str, Any]
_UNDERSTOOD = {"apiVersion", "kind", "namespace", "resources", "patches", "images"}


def kustomized(folder: Path) -> list[Resource]:
    """The resources of a folder with a kustomization.yaml."""
    plan = yaml.safe_load((folder / "kustomization.yaml").read_text(encoding="utf-8"))
    unknown = set(plan) - _UNDERSTOOD
    assert not unknown, f"kustomized() has to learn {unknown}"
    found: list[Resource] = []
    for name in plan["resources"]:
        path = folder / name
        found += kustomized(path) if path.is_dir() else documents(path)
    for patch in plan.get("patches", []):
        for change in documents(folder / patch["path"]):
            (target,) = [one for one in found if identity(one) == identity(change)]
            _merge(target, change)
    if "namespace" in plan:
        for one in found:
            if one["kind"] != "Namespace":
                one["metadata"]["namespace"] = plan["namespace"]
    for image in plan.get("images", []):
        _exchange(found, image)
    return found


def documents(path: Path) -> list[Resource]:
    return [one for one in yaml.safe_load_all(path.read_text(encoding="utf-8")) if one]


def identity(resource: Resource) -> tuple[str, str]:
    return resource["kind"], resource["metadata"]["name"]


def _merge(target: Resource, change: Resource) -> None:
    """A strategic merge, of which lists whose items have names are the whole strategy."""
    for key, value in change.items():
        present = target.get(key)
        if value is None:
            target.pop(key, None)
        elif isinstance(value, dict) and isinstance(present, dict):
            _merge(present, value)
        elif isinstance(value, list) and isinstance(present, list) and "name" in value[0]:
            added = 0
            for item in value:
                same = next((one for one in present if one["name"] == item["name"]), None)
                if same is None:
                    present.insert(added, item)
                    added += 1
                else:
                    _merge(same, item)
        else:
            target[key] = value


def _exchange(node: object, image: dict[str, str]) -> None:
    if isinstance(node, dict):
        name, _, tag = str(node.get("image", "")).rpartition(":")
        if name == image["name"]:
            node["image"] = f"{image.get('newName', name)}:{image.get('newTag', tag)}"
    children = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    for child in children:
        _exchange(child, image)
