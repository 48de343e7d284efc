"""What can be said about the image and the compose file without building or running them."""

import inspect
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from circus.watcher import Watcher

from service.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
COMPOSE = ROOT / "deploy" / "compose.yaml"
PROMETHEUS = ROOT / "deploy" / "prometheus"
# BentoML's supervisor kills a worker that has not ended so long after SIGTERM. Seconds.
SUPERVISOR_S = inspect.signature(Watcher.__init__).parameters["graceful_timeout"].default


def instructions() -> list[tuple[str, str]]:
    """``(instruction, rest)`` of each line of the Dockerfile, continuations joined."""
    text = re.sub(r"\\\n", " ", (ROOT / "Dockerfile").read_text())
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return [(line.strip().split(maxsplit=1)[0], line.strip().split(maxsplit=1)[1]) for line in lines]


def values(name: str) -> list[str]:
    return [rest for instruction, rest in instructions() if instruction == name]


def compose() -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load(COMPOSE.read_text())
    return document


def health_command() -> list[str]:
    command: list[str] = json.loads(values("HEALTHCHECK")[0].partition("CMD ")[2])
    return command


def test_every_base_image_is_an_argument_with_a_tag() -> None:
    base = next(value for value in values("ARG") if value.startswith("BASE="))
    image, _, tag = base.removeprefix("BASE=").rpartition(":")
    assert image
    assert tag not in ("", "latest")
    assert "@" not in base, "a digest that nobody looked up is worse than a tag"
    assert all(value.split()[0] == "${BASE}" for value in values("FROM"))
    assert len(values("FROM")) == 2


def test_the_image_says_what_it_is_and_of_which_revision() -> None:
    labels = dict(re.findall(r'(\S+)="([^"]*)"', values("LABEL")[0]))
    assert labels.pop("org.opencontainers.image.description")
    assert labels == {
        "org.opencontainers.image.title": "keras-serving",
        "org.opencontainers.image.licenses": "Apache-2.0",
        "org.opencontainers.image.version": "${VERSION}",
        "org.opencontainers.image.revision": "${REVISION}",
        "org.opencontainers.image.base.name": "${BASE}",
    }


def test_the_user_is_numeric_and_not_root() -> None:
    assert values("USER") == ["10001:10001"]


def test_the_entry_point_is_in_exec_form_so_that_signals_arrive() -> None:
    assert [json.loads(value) for value in values("ENTRYPOINT")] == [["keras-serving", "serve", "--host", "0.0.0.0"]]  # noqa: S104
    assert values("STOPSIGNAL") == ["SIGTERM"]


def test_the_health_check_needs_no_curl_and_is_the_same_in_compose() -> None:
    assert health_command()[0] == "python3"
    assert compose()["services"]["serving"]["healthcheck"]["test"] == ["CMD", *health_command()]


def test_only_hash_pinned_packages_are_installed() -> None:
    installs = re.findall(r"\binstall\s[^&]*", " && ".join(values("RUN")))
    installs = [command for command in installs if not command.startswith("install --yes")]
    assert len(installs) == 4
    assert all("--require-hashes" in command or "--no-index" in command for command in installs)


@pytest.mark.parametrize(("lock", "tensorflow"), [("container", False), ("gpu", False), ("train", True)])
def test_only_the_image_for_training_has_tensorflow(lock: str, tensorflow: bool) -> None:
    text = (ROOT / "requirements" / f"{lock}.txt").read_text()
    assert bool(re.search(r"^(tensorflow|keras)==", text, re.MULTILINE)) == tensorflow
    assert bool(re.search(r"^onnxruntime-gpu==", text, re.MULTILINE)) == (lock == "gpu")


def test_each_target_installs_a_lock_that_is_there_and_any_other_is_refused() -> None:
    choice = next(value for value in values("RUN") if value.startswith("case"))
    script = choice.partition("esac")[0] + "esac"
    for target, lock in (("cpu", "container"), ("gpu", "gpu"), ("train", "train"), ("tpu", None)):
        done = subprocess.run(
            ["sh", "-c", f"{script}; echo $lock"], env={"TARGET": target}, capture_output=True, text=True, check=False
        )
        assert (done.returncode == 0) == (lock is not None)
        assert done.stdout.strip() == (lock or "TARGET is 'tpu', not cpu, gpu or train")
        assert lock is None or (ROOT / "requirements" / f"{lock}.txt").is_file()


@pytest.mark.parametrize("lock", ["container", "gpu", "train"])
def test_every_image_can_follow_a_store_in_s3(lock: str) -> None:
    assert re.search(r"^s3fs==", (ROOT / "requirements" / f"{lock}.txt").read_text(), re.MULTILINE)


def test_hadolint_finds_nothing() -> None:
    hadolint = str(Path(sys.executable).with_name("hadolint"))
    done = subprocess.run([hadolint, str(ROOT / "Dockerfile")], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_slimming_leaves_what_is_compiled_and_what_says_who_wrote_it(tmp_path: Path) -> None:
    kept = ["numpy/__init__.py", "numpy/__pycache__/a.pyc", "numpy-2.dist-info/RECORD", "onnxruntime/capi/a.so"]
    kept += ["botocore/data/endpoints.json", "botocore/data/s3/2006-03-01/service-2.json.gz"]
    gone = [
        "numpy/_core/tests/test_a.py",
        "botocore/data/ec2/2016-11-15/service-2.json.gz",
        "onnxruntime/transformers/a.py",
        "a/b.pyx",
        "with space/c.h",
    ]
    for name in kept + gone:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    subprocess.run(["sh", str(ROOT / "deploy" / "slim.sh"), str(tmp_path)], check=True, capture_output=True)
    assert {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()} == set(kept)


def test_the_context_holds_what_is_copied_and_nothing_else() -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*"
    allowed = {rule[1:] for rule in rules if rule.startswith("!")}
    copied = {
        source
        for value in values("COPY")
        if "--from" not in value
        for source in value.split()[:-1]
        if not source.startswith("--")
    }
    assert copied == allowed
    assert all((ROOT / source).exists() for source in copied)


def test_state_lies_on_the_volume_and_the_code_is_never_written() -> None:
    environment = dict(re.findall(r"(\w+)=(\S+)", values("ENV")[-1]))
    assert [environment["SERVING_HOME"]] == values("VOLUME")
    assert environment["HOME"] == environment["SERVING_HOME"]
    assert environment["PYTHONDONTWRITEBYTECODE"] == "1"
    serving = compose()["services"]["serving"]
    assert [volume.split(":")[1] for volume in serving["volumes"]] == values("VOLUME")
    assert any(mount.startswith("/tmp:") for mount in serving["tmpfs"])  # noqa: S108 - no file is made


@pytest.mark.parametrize("name", sorted(compose()["services"]))
def test_every_container_is_confined(name: str) -> None:
    service = compose()["services"][name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert all(port.startswith("127.0.0.1:") for port in service["ports"])
    image = service["image"].removesuffix("}").rpartition(":-")[2]
    assert ":" in image
    assert not image.endswith(":latest")


def test_compose_passes_secrets_on_by_name_and_holds_none() -> None:
    environment = compose()["services"]["serving"]["environment"]
    assert environment == ["SERVING_ADMIN_TOKEN", "SERVING_API_KEYS"]
    secrets = {"SERVING_" + name.upper() for name, field in Settings.model_fields.items() if "Secret" in str(field)}
    assert set(environment) == secrets


def test_compose_waits_longer_than_the_supervisor_before_it_kills() -> None:
    grace = compose()["services"]["serving"]["stop_grace_period"]
    assert int(grace.removesuffix("s")) >= SUPERVISOR_S + 5
    assert Settings(_env_file=None).drain_s <= SUPERVISOR_S - 20


def test_compose_allows_the_threads_of_eight_workers_with_eight_for_each_of_ten_models() -> None:
    assert compose()["services"]["serving"]["pids_limit"] >= 8 * (10 * 8 + 20)


def test_compose_points_at_files_and_volumes_that_exist() -> None:
    document = compose()
    assert (COMPOSE.parent / document["services"]["serving"]["build"]["context"] / "Dockerfile").is_file()
    for service in document["services"].values():
        for volume in service["volumes"]:
            source = volume.split(":")[0]
            assert source in document["volumes"] or (COMPOSE.parent / source).is_dir()
    assert (PROMETHEUS / "prometheus.yml").is_file()


def test_prometheus_scrapes_the_service_where_compose_runs_it() -> None:
    jobs = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())["scrape_configs"]
    job = next(job for job in jobs if job["job_name"] == "keras-serving")
    host, port = job["static_configs"][0]["targets"][0].split(":")
    assert host in compose()["services"]
    assert port in values("EXPOSE")[0].split()


def test_compose_publishes_the_ports_of_the_image() -> None:
    published = [port.rpartition(":")[2] for port in compose()["services"]["serving"]["ports"]]
    assert published == values("EXPOSE")[0].split()
    assert published[1] == str(Settings.model_fields["grpc_port"].default)


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed (Debian: prometheus)")
def test_promtool_accepts_the_configuration() -> None:
    subprocess.run(["promtool", "check", "config", str(PROMETHEUS / "prometheus.yml")], check=True, capture_output=True)


@pytest.mark.parametrize("name", ["image_test.sh", "package_test.sh"])
def test_the_slow_checks_are_valid_bash(name: str) -> None:
    subprocess.run(["bash", "-n", str(ROOT / "deploy" / name)], check=True, capture_output=True)
