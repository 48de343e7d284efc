"""The Kubernetes manifests: valid where a schema covers them, and in agreement with each other and with the code.

No schema at hand covers ServiceMonitor, PrometheusRule (Prometheus Operator) and InferenceService (KServe): only what
they name is checked. No cluster takes part.
"""

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.kubernetes.rules import TARGET, prometheus_rule
from models.remote.address import Address
from service.grpc_server import _GRACE_S
from service.settings import Settings
from tests.deploy.kustomized import Resource, documents, identity, kustomized
from tests.deploy.test_container_files import SUPERVISOR_S, values

KUBERNETES = Path(__file__).resolve().parents[2] / "deploy" / "kubernetes"
ROOT = KUBERNETES.parents[1]
FLEET = "overlays/fleet"
SERVING = ["overlays/cpu", "overlays/gpu", FLEET]
FOLDERS = [*SERVING, "monitoring"]
OLDEST = "1.28"
YAMLLINT = str(Path(sys.executable).with_name("yamllint"))


def of_kind(kind: str, folder: str = "overlays/cpu") -> Resource:
    (found,) = [one for one in kustomized(KUBERNETES / folder) if one["kind"] == kind]
    return found


def pod_of(resource: Resource) -> dict[str, Any]:
    """The pod template's spec, or what KServe makes one of."""
    spec = resource["spec"]
    spec = spec.get("jobTemplate", {}).get("spec", spec)
    found: dict[str, Any] = spec["predictor"] if "predictor" in spec else spec["template"]["spec"]
    return found


def serving_pods() -> list[dict[str, Any]]:
    (kserve,) = documents(KUBERNETES / "kserve" / "inferenceservice.yaml")
    return [*(pod_of(of_kind("Deployment", folder)) for folder in SERVING), pod_of(kserve)]


def every_pod() -> list[dict[str, Any]]:
    return [*serving_pods(), pod_of(of_kind("CronJob")), pod_of(of_kind("CronJob", FLEET))]


def labels_of_pods(resource: Resource) -> dict[str, str]:
    spec = resource["spec"]
    found: dict[str, str] = spec.get("jobTemplate", {}).get("spec", spec)["template"]["metadata"]["labels"]
    return found


def environment_of(container: dict[str, Any]) -> dict[str, Any]:
    return {one["name"]: one for one in container["env"]}


def selects(selector: dict[str, str], labels: dict[str, str]) -> bool:
    return bool(selector) and selector.items() <= labels.items()


@pytest.mark.parametrize("oldest", [True, False])
def test_the_schemas_of_kubernetes_accept_every_core_kind(oldest: bool) -> None:
    # It compiles grammars for three seconds, which not every worker of a test run needs.
    import kubernetes_validate

    version = OLDEST if oldest else kubernetes_validate.latest_version()
    resources = [one for folder in SERVING for one in kustomized(KUBERNETES / folder)]
    resources += documents(KUBERNETES / "examples" / "ingress.yaml")
    for resource in resources:
        kubernetes_validate.validate(resource, version, strict=True)
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(resources[0] | {"spec": {"no": "such field"}}, version, strict=True)


@pytest.mark.parametrize("folder", FOLDERS)
def test_everything_is_put_into_the_namespace_that_is_made(folder: str) -> None:
    namespace = of_kind("Namespace")["metadata"]["name"]
    resources = [one for one in kustomized(KUBERNETES / folder) if one["kind"] != "Namespace"]
    assert resources
    assert {one["metadata"].get("namespace") for one in resources} == {namespace}


@pytest.mark.parametrize("folder", FOLDERS)
@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")
def test_kubectl_builds_what_these_tests_look_at(folder: str) -> None:
    built = subprocess.run(["kubectl", "kustomize", str(KUBERNETES / folder)], check=True, capture_output=True).stdout
    theirs = {identity(one): one for one in yaml.safe_load_all(built)}
    assert theirs == {identity(one): one for one in kustomized(KUBERNETES / folder)}


def test_every_file_is_part_of_something() -> None:
    files = {path.relative_to(KUBERNETES).as_posix() for path in KUBERNETES.rglob("*.yaml")}
    plans = {file for file in files if file.endswith("kustomization.yaml")}
    assert {f"{folder}/kustomization.yaml" for folder in [*FOLDERS, "base"]} == plans
    named = set()
    for plan in plans:
        document = yaml.safe_load((KUBERNETES / plan).read_text())
        parts = [*document["resources"], *(patch["path"] for patch in document.get("patches", []))]
        named |= {f"{Path(plan).parent.as_posix()}/{part}" for part in parts}
    assert files - plans - named == {"examples/ingress.yaml", "kserve/inferenceservice.yaml"}


def test_the_prometheus_rule_holds_the_very_rules_of_prometheus() -> None:
    assert TARGET.read_text(encoding="utf-8") == prometheus_rule(), "run: python -m deploy.kubernetes.rules"
    shipped = [
        yaml.safe_load((ROOT / "deploy" / "prometheus" / name).read_text()) for name in ("rules.yml", "alerts.yml")
    ]
    groups = yaml.safe_load(TARGET.read_text())["spec"]["groups"]
    assert groups == [group for file in shipped for group in file["groups"]]


@pytest.mark.parametrize("pod", every_pod())
def test_every_pod_is_confined_as_the_image_is_tested(pod: dict[str, Any]) -> None:
    user, group = (int(part) for part in values("USER")[0].split(":"))
    security = pod["securityContext"]
    assert security["runAsNonRoot"] is True
    assert (security["runAsUser"], security["runAsGroup"], security["fsGroup"]) == (user, group, group)
    assert security["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is False
    assert pod["enableServiceLinks"] is False
    (container,) = pod["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert container["resources"]["requests"].keys() == {"cpu", "memory"}
    assert "memory" in container["resources"]["limits"]
    assert "cpu" not in container["resources"]["limits"]


@pytest.mark.parametrize("pod", every_pod())
def test_what_is_written_lies_on_volumes(pod: dict[str, Any]) -> None:
    (container,) = pod["containers"]
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    mounts = {mount["mountPath"]: volumes.pop(mount["name"]) for mount in container["volumeMounts"]}
    assert not volumes
    (home,) = values("VOLUME")
    if "envFrom" in container and container["name"] != "retrain":
        assert mounts[home].keys() == {"name", "emptyDir"}, "replicas without a shared volume"
    else:
        claim = of_kind("PersistentVolumeClaim")["metadata"]["name"]
        assert mounts[home]["persistentVolumeClaim"]["claimName"] == claim
    assert "emptyDir" in mounts["/tmp"]  # noqa: S108 - no file is made
    if container["name"] != "retrain":
        assert "emptyDir" in mounts[f"{home}/run"], "pods on one volume would mix their metrics"


@pytest.mark.parametrize("pod", serving_pods())
def test_a_pod_has_the_time_to_stop_that_its_drain_and_its_supervisor_take(pod: dict[str, Any]) -> None:
    (container,) = pod["containers"]
    command = container["lifecycle"]["preStop"]["exec"]["command"]
    pause = float(re.search(r"sleep\((\d+)\)", command[-1])[1])  # type: ignore[index]
    drain = float(environment_of(container)["SERVING_DRAIN_S"]["value"])
    assert drain + _GRACE_S <= SUPERVISOR_S
    assert pod["terminationGracePeriodSeconds"] >= pause + SUPERVISOR_S + 5
    readiness = container["readinessProbe"]
    assert readiness["periodSeconds"] * readiness["failureThreshold"] <= pause + drain, "or it is noticed too late"


@pytest.mark.parametrize("pod", serving_pods())
def test_probes_ask_routes_that_exist_at_the_port_of_http(pod: dict[str, Any]) -> None:
    (container,) = pod["containers"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert set(ports.values()) <= {int(port) for port in values("EXPOSE")[0].split()}
    http = next(port for name, port in ports.items() if name.startswith("http"))
    asked = {name: container[f"{name}Probe"]["httpGet"] for name in ("startup", "readiness", "liveness")}
    assert {ports.get(get["port"], get["port"]) for get in asked.values()} == {http}
    paths = {name: get["path"] for name, get in asked.items()}
    assert paths["startup"] == paths["readiness"]
    assert paths in (
        {"startup": "/readyz", "readiness": "/readyz", "liveness": "/livez"},
        {"startup": "/v2/health/ready", "readiness": "/v2/health/ready", "liveness": "/v2/health/live"},
    )


@pytest.mark.parametrize("pod", serving_pods())
def test_every_setting_is_one_that_the_service_knows(pod: dict[str, Any]) -> None:
    (container,) = pod["containers"]
    names = {name.removeprefix("SERVING_").lower() for name in environment_of(container) if name.startswith("SERVING_")}
    assert names <= set(Settings.model_fields)
    literal = {
        n.removeprefix("SERVING_").lower(): e["value"] for n, e in environment_of(container).items() if "value" in e
    }
    Settings.load(**{name: value for name, value in literal.items() if name in Settings.model_fields})


@pytest.mark.parametrize("pod", serving_pods())
def test_a_pod_is_open_to_none_but_who_has_the_secrets_once_there_are_any(pod: dict[str, Any]) -> None:
    (container,) = pod["containers"]
    given = {
        name: one["valueFrom"]["secretKeyRef"] for name, one in environment_of(container).items() if "valueFrom" in one
    }
    secrets = {f"SERVING_{name.upper()}" for name, field in Settings.model_fields.items() if "Secret" in str(field)}
    assert secrets <= set(given)
    assert {given[name]["name"] for name in secrets} == {"keras-serving"}


@pytest.mark.parametrize("pod", serving_pods())
def test_a_pod_works_with_as_many_threads_as_the_cpus_that_it_asks_for(pod: dict[str, Any]) -> None:
    (container,) = pod["containers"]
    environment = environment_of(container)
    busy = int(environment["SERVING_WORKERS"]["value"]) * int(environment["SERVING_THREADS"]["value"])
    assert busy == int(container["resources"]["requests"]["cpu"]), "without a limit it would be those of the node"


def test_selectors_find_the_pods_of_the_service_and_no_others() -> None:
    serving, retraining = (labels_of_pods(of_kind(kind)) for kind in ("Deployment", "CronJob"))
    policies = {
        one["metadata"]["name"]: one for one in kustomized(KUBERNETES / "base") if one["kind"] == "NetworkPolicy"
    }
    budget = of_kind("PodDisruptionBudget")["spec"]["selector"]["matchLabels"]
    ours = [
        of_kind("Deployment")["spec"]["selector"]["matchLabels"],
        of_kind("Service")["spec"]["selector"],
        policies["keras-serving"]["spec"]["podSelector"]["matchLabels"],
        budget,
    ]
    assert all(selects(selector, serving) and not selects(selector, retraining) for selector in ours)
    theirs = policies["keras-serving-retrain"]["spec"]["podSelector"]["matchLabels"]
    assert selects(theirs, retraining)
    assert not selects(theirs, serving)
    target = of_kind("HorizontalPodAutoscaler")["spec"]["scaleTargetRef"]
    assert (target["kind"], target["name"]) == identity(of_kind("Deployment"))


def test_ports_are_called_the_same_from_the_pod_to_the_monitor_and_the_ingress() -> None:
    (container,) = pod_of(of_kind("Deployment"))["containers"]
    inside = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert sorted(inside.values()) == sorted(int(port) for port in values("EXPOSE")[0].split())
    assert inside["grpc"] == Settings.model_fields["grpc_port"].default
    service = of_kind("Service")
    offered = {port["name"]: port["targetPort"] for port in service["spec"]["ports"]}
    assert offered == {"http": "http", "grpc": "grpc", "metrics": "http"}
    monitor = of_kind("ServiceMonitor", "monitoring")
    assert [endpoint["port"] for endpoint in monitor["spec"]["endpoints"]] == ["metrics"]
    assert selects(monitor["spec"]["selector"]["matchLabels"], service["metadata"]["labels"])
    jobs = yaml.safe_load((ROOT / "deploy" / "prometheus" / "prometheus.yml").read_text())["scrape_configs"]
    assert service["metadata"]["labels"][monitor["spec"]["jobLabel"]] in {job["job_name"] for job in jobs}
    (ingress,) = documents(KUBERNETES / "examples" / "ingress.yaml")
    backends = [path["backend"]["service"] for path in ingress["spec"]["rules"][0]["http"]["paths"]]
    assert all(backend["name"] == service["metadata"]["name"] for backend in backends)
    assert {backend["port"]["name"] for backend in backends} <= set(offered)
    assert monitor["metadata"]["namespace"] == ingress["metadata"]["namespace"] == service["metadata"]["namespace"]
    policy = next(one for one in kustomized(KUBERNETES / "base") if one["kind"] == "NetworkPolicy")
    assert {port["port"] for rule in policy["spec"]["ingress"] for port in rule["ports"]} <= set(inside)
    assert policy["spec"]["egress"] == []


@pytest.mark.parametrize("folder", SERVING)
def test_pods_take_connections_only_from_those_who_are_named(folder: str) -> None:
    policies = {
        one["metadata"]["name"]: one["spec"]
        for one in kustomized(KUBERNETES / folder)
        if one["kind"] == "NetworkPolicy"
    }
    assert all(set(policy["policyTypes"]) == {"Ingress", "Egress"} for policy in policies.values())
    clients, monitoring = (rule["from"] for rule in policies["keras-serving"]["ingress"])
    assert clients == [
        {"podSelector": {}},
        {"namespaceSelector": {"matchLabels": {"keras-serving.io/client": "true"}}},
    ]
    assert monitoring == [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}]
    assert policies["keras-serving-retrain"]["ingress"] == []


@pytest.mark.parametrize("folder", SERVING)
def test_a_drain_of_nodes_takes_one_pod_at_a_time(folder: str) -> None:
    budget = of_kind("PodDisruptionBudget", folder)["spec"]
    assert (budget["maxUnavailable"], budget.get("minAvailable")) == (1, None)


def test_the_ingress_lets_through_bodies_as_large_as_the_service_takes() -> None:
    (ingress,) = documents(KUBERNETES / "examples" / "ingress.yaml")
    limit = ingress["metadata"]["annotations"]["nginx.ingress.kubernetes.io/proxy-body-size"]
    assert int(limit.removesuffix("m")) * 1024**2 == Settings.model_fields["max_body_bytes"].default


def test_images_carry_the_version_of_the_package() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    for folder, suffix in (("overlays/cpu", ""), ("overlays/gpu", "-gpu"), (FLEET, "")):
        assert pod_of(of_kind("Deployment", folder))["containers"][0]["image"] == f"keras-serving{suffix}:{version}"
        assert pod_of(of_kind("CronJob", folder))["containers"][0]["image"] == f"keras-serving-train:{version}"
    assert f"VERSION={version}" in values("ARG")


def test_the_gpu_overlay_asks_for_a_gpu_and_refuses_to_do_without() -> None:
    pod = pod_of(of_kind("Deployment", "overlays/gpu"))
    (container,) = pod["containers"]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert environment_of(container)["SERVING_DEVICE"]["value"] == "gpu"
    assert environment_of(container)["SERVING_DRAIN_S"]["value"] == "5"
    assert [one["key"] for one in pod["tolerations"]] == ["nvidia.com/gpu"]


def test_the_fleets_servers_and_its_job_go_by_one_store_whose_address_and_rights_they_are_given() -> None:
    written = of_kind("ConfigMap", FLEET)
    assert {f"SERVING_{name.upper()}" for name in Settings.model_fields} | {"AWS_REGION"} >= set(written["data"])
    assert Address.parse(written["data"]["SERVING_STORE"]).scheme == "s3"
    accounts = [one["metadata"]["name"] for one in kustomized(KUBERNETES / FLEET) if one["kind"] == "ServiceAccount"]
    for kind, account in zip(("Deployment", "CronJob"), accounts, strict=True):
        pod = pod_of(of_kind(kind, FLEET))
        (container,) = pod["containers"]
        assert pod["serviceAccountName"] == account
        assert container["envFrom"] == [{"configMapRef": {"name": written["metadata"]["name"]}}]
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            assert environment_of(container)[name]["valueFrom"]["secretKeyRef"]["optional"] is True
    policies = [one for one in kustomized(KUBERNETES / FLEET) if one["kind"] == "NetworkPolicy"]
    for policy in policies:
        assert {port["port"] for rule in policy["spec"]["egress"] for port in rule["ports"]} == {53, 443}
        assert [rule["to"][0]["ipBlock"]["except"] for rule in policy["spec"]["egress"] if "to" in rule] == [
            ["169.254.0.0/16"]
        ]


def test_the_job_retrains_in_the_folder_of_the_volume_and_calls_a_refusal_no_failure(tmp_path: Path) -> None:
    (container,) = pod_of(of_kind("CronJob"))["containers"]
    assert [container["workingDir"]] == values("VOLUME")
    tool = tmp_path / "keras-serving"
    for status, expected in ((0, 0), (1, 1), (2, 2), (3, 0), (4, 0)):
        tool.write_text(f'#!/bin/sh\necho "$@"\nexit {status}\n')
        tool.chmod(0o755)
        environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "MODEL": "churn"}
        done = subprocess.run(container["command"], env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == expected
        assert done.stdout == "retrain churn --when drift\n"


def test_yamllint_finds_nothing() -> None:
    configuration = str(ROOT / ".yamllint.yaml")
    done = subprocess.run(
        [YAMLLINT, "--strict", "--config-file", configuration, str(ROOT / "deploy")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "")
