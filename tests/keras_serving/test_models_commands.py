"""`keras-serving models ...`: what it prints, what it changes, and how it ends."""

import json
import shutil
from datetime import timedelta
from pathlib import Path

import pytest
from PIL import Image

from models.aliases import CANDIDATE, Canary, Traffic
from models.bundle import ONNX
from models.journal import ALIASES
from models.store import Store
from tests.bundles import CARS, CREATED, IMAGE, graph_of, make_bundle, rows_of
from tests.keras_serving.conftest import Cli


def production(store: Store) -> str | None:
    target = store.aliases().target("cars")
    return target.version if target else None


@pytest.mark.parametrize(
    ("arguments", "remedy"),
    [
        (["show", "nope"], "Known models: cars, clothes, heat"),
        (["show", "cars", "nope"], "Known versions: 2026"),
        (["show", "cars", "--url", "localhost:3000"], "http://"),
        (["promote", "cars", "../../etc"], "Known versions: 2026"),
        (["show", "../cars"], "Known models: cars, clothes, heat"),
        (["export", "/etc", "x.tar"], "Known models: cars, clothes, heat"),
        (["delete", "cars", ".."], "Known versions: 2026"),
        (["label", "cars", "production", "../up"], "lower case letters"),
        (["promote", "cars"], "Missing argument 'VERSION'"),
        (["promote", "cars", "production", "--alias", "Has Space"], "lower case letters"),
        (["rollback", "nope"], "Known models: cars, clothes, heat"),
        (["label", "cars", "production", "production"], "models promote cars"),
        (["label", "cars", "blue"], "Missing argument 'LABEL'"),
        (["unlabel", "cars", "blue"], "Its aliases: production"),
        (["unlabel", "cars", "production"], "models promote or rollback"),
        (["canary", "cars", "60"], "above 0 up to 50, or off"),
        (["canary", "cars", "much"], "above 0 up to 50, or off"),
        (["canary", "cars", "10", "--requests", "3"], "--requests: Input should be greater than or equal to 50"),
        (["canary", "cars", "10", "--p99-factor", "0.5"], "--p99-factor"),
        (["canary", "cars", "off", "--requests", "100"], "off takes no"),
        (["canary", "nope", "10"], "Known models: cars, clothes, heat"),
        (["shadow", "cars", "perhaps"], "'on', 'off'"),
        (["shadow", "nope"], "Known models: cars, clothes, heat"),
        (["delete", "cars", "production"], "Known versions: 2026"),
        (["prune", "cars", "--keep", "0"], "x>=1"),
        (["prune", "nope"], "Known models: cars, clothes, heat"),
        (["history", "nope"], "Known models: cars, clothes, heat"),
        (["diff", "cars", "nope:production"], "Known models: cars, clothes, heat"),
        (["diff", "cars"], "Missing argument 'B'"),
        (["export", "cars", "a", "b", "c.tar"], "one VERSION and one FILE"),
        (["export", "cars", "missing/c.tar"], "no folder missing"),
        (["import", "missing.keras", "--name", "x", "--labels", "a,b"], "does not exist"),
        (["import", __file__, "--name", "x"], "neither an archive"),
        (["import", "theirs.keras"], "needs --name"),
        (["import", "theirs.keras", "--name", "x"], "needs --labels"),
        (["import", "theirs.keras", "--name", "Bad Name", "--labels", "a,b"], "lower case letters"),
    ],
)
def test_wrong_use_exits_2_with_one_line_that_says_the_remedy(
    cli: Cli, store: Store, tmp_path: Path, arguments: list[str], remedy: str
) -> None:
    (tmp_path / "theirs.keras").write_bytes(b"PK\x03\x04")
    before = store.aliases()
    status, out, err = cli("models", *arguments)
    assert (status, out, len(err.splitlines())) == (2, "", 1)
    assert remedy in err
    assert store.aliases() == before


@pytest.mark.parametrize(
    ("arguments", "remedy"),
    [
        (["promote", "cars", "{2}", "--expect", "{1}"], "points to {0}, not to {1}"),
        (["rollback", "cars"], "no earlier production version"),
        (["rollback", "cars", "--expect", "{1}"], "models history"),
        (["canary", "cars", "10"], "models label cars VERSION candidate"),
        (["shadow", "cars", "on"], "models label cars VERSION candidate"),
        (["delete", "cars", "{0}"], "needed by the alias production"),
    ],
)
def test_a_conflict_exits_1_with_one_line_that_says_what_to_look_at(
    cli: Cli, store: Store, versions: list[str], arguments: list[str], remedy: str
) -> None:
    before = store.aliases()
    status, out, err = cli("models", *(word.format(*versions) for word in arguments))
    assert (status, out, len(err.splitlines())) == (1, "", 1)
    assert remedy.format(*versions) in err
    assert store.aliases() == before


def test_a_corrupt_document_is_named_by_every_command_and_stays_as_it_is(
    cli: Cli, store: Store, versions: list[str], tmp_path: Path
) -> None:
    assert cli("models", "export", "cars", "cars.tar")[0] == 0
    (store.home / ALIASES).write_bytes(b"{")
    for line in (
        "list",
        "show cars",
        "diff cars clothes",
        "history",
        f"promote cars {versions[1]}",
        "rollback cars",
        f"label cars {versions[1]} blue",
        "unlabel cars blue",
        "canary cars 10",
        "shadow cars on",
        f"delete cars {versions[1]}",
        "prune --keep 1",
        "export cars other.tar",
        "import cars.tar",
    ):
        status, out, err = cli("models", *line.split())
        assert (status, out, len(err.splitlines())) == (1, "", 1), line
        assert "aliases.json is not valid" in err, line
        assert "Restore it from a backup" in err, line
    assert (store.home / ALIASES).read_bytes() == b"{"


def test_list_shows_each_version_and_what_points_to_it(cli: Cli, store: Store, versions: list[str]) -> None:
    store.set_alias("cars", versions[1], CANDIDATE)
    store.set_traffic("cars", Traffic(canary=Canary(percent=12.5), shadow=True))
    (store.open("cars", versions[2]).path / "manifest.json").write_text("{")
    status, out, _ = cli("models", "list", "--json")
    rows = {row["version"]: row for row in json.loads(out) if row["name"] == "cars"}
    assert status == 0
    assert [rows[version]["alias"] for version in versions] == ["production", "candidate 12.5 % shadow", ""]
    assert "unusable" in rows[versions[2]]["figure"]
    assert versions[1] in cli("models", "list")[1]


def test_show_says_what_a_version_is(cli: Cli, store: Store, versions: list[str]) -> None:
    store.set_alias("cars", versions[1], "blue")
    status, out, _ = cli("models", "show", "cars", "blue")
    assert status == 0
    for text in (versions[1], "blue", "tabular_regression", "made up (1 train)", "pytest (seed 1", "majority 0.3"):
        assert text in out
    document = json.loads(cli("models", "show", "cars", versions[1], "--json")[1])
    manifest = store.open("cars", versions[1]).manifest.model_dump(mode="json")
    assert document | manifest == document
    assert document["aliases"] == ["blue"]
    assert (
        document["bytes"]
        == sum(p.stat().st_size for p in store.open("cars", versions[1]).path.rglob("*"))
        - (store.open("cars", versions[1]).path / "model.yaml").stat().st_size
    )


def test_promote_moves_production_and_says_from_where(cli: Cli, store: Store, versions: list[str]) -> None:
    status, out, _ = cli("models", "promote", "cars", versions[1], "--reason", "better on new rows")
    assert (status, out) == (0, f"cars: {versions[0]} -> {versions[1]}\n")
    assert production(store) == versions[1]
    last = store.changes()[-1]
    assert (last.action, last.before, last.after) == ("promote", *versions[:2])
    assert last.reason == "better on new rows"
    assert "@" in last.who
    assert cli("models", "rollback", "cars")[1] == f"cars: {versions[1]} -> {versions[0]}\n"


def test_promote_takes_the_name_of_an_alias(cli: Cli, store: Store, versions: list[str]) -> None:
    cli("models", "label", "cars", versions[2], "candidate")
    assert cli("models", "promote", "cars", "candidate")[1] == f"cars: {versions[0]} -> {versions[2]}\n"
    assert store.aliases().models["cars"].keys() == {"production"}


def test_promote_of_another_schema_says_what_clients_will_notice(cli: Cli, store: Store, tmp_path: Path) -> None:
    wider = CARS.model_copy(update={"unit": "km/l"})
    other = store.add(make_bundle(tmp_path / "n", "cars", wider, seed=9, created=CREATED + timedelta(days=9)).path)
    status, _, err = cli("models", "promote", "cars", other.manifest.version)
    assert (status, err) == (0, "clients will notice: unit 'mpg' became 'km/l'\n")


def test_an_altered_version_is_not_promoted(cli: Cli, store: Store, versions: list[str]) -> None:
    (store.open("cars", versions[1]).path / ONNX).write_bytes(b"altered")
    before = store.aliases()
    status, _, err = cli("models", "promote", "cars", versions[1])
    assert (status, len(err.splitlines())) == (1, 1)
    assert "sha256" in err
    assert store.aliases() == before


def test_a_version_that_answers_otherwise_than_in_training_is_not_promoted(
    cli: Cli, store: Store, tmp_path: Path
) -> None:
    made = make_bundle(tmp_path / "n", "cars", CARS, seed=1, created=CREATED + timedelta(days=1))
    (made.path / ONNX).write_bytes(graph_of(CARS, 2))
    version = store.add(made.resealed(made.path).path).manifest.version
    before = store.aliases()
    for command in (("promote", "cars", version), ("label", "cars", version, "blue")):
        status, _, err = cli("models", *command)
        assert (status, len(err.splitlines())) == (1, 1)
        assert "golden rows" in err
    assert store.aliases() == before


def test_a_damaged_production_version_can_be_replaced(cli: Cli, store: Store, versions: list[str]) -> None:
    (store.open("cars", versions[0]).path / "manifest.json").write_text("{")
    assert cli("models", "promote", "cars", versions[1])[0] == 0
    assert production(store) == versions[1]


def test_canary_and_shadow_leave_each_other_alone(cli: Cli, store: Store, versions: list[str]) -> None:
    cli("models", "label", "cars", versions[1], "candidate")
    status, out, _ = cli("models", "canary", "cars", "10", "--requests", "200", "--error-factor", "3")
    said = "canary 10 % (judged each 200 requests, errors x3, p99 x2)"
    assert (status, out) == (0, f"cars candidate {versions[1]}: no traffic -> {said}\n")
    assert cli("models", "shadow", "cars")[1].endswith(f"{said} -> {said}, shadow\n")
    assert cli("models", "canary", "cars", "off")[1].endswith("-> shadow\n")
    assert store.aliases().traffic == {"cars": Traffic(shadow=True)}
    assert cli("models", "shadow", "cars", "off")[1].endswith("shadow -> no traffic\n")
    cli("models", "canary", "cars", "10")
    assert cli("models", "unlabel", "cars", "candidate")[0] == 0
    assert store.aliases().traffic == {}


def test_delete_and_prune_say_what_is_gone(cli: Cli, store: Store, versions: list[str]) -> None:
    assert cli("models", "delete", "cars", versions[1]) == (0, f"cars: {versions[1]} is deleted\n", "")
    status, out, _ = cli("models", "prune", "--keep", "1")
    assert status == 0
    assert "cars: nothing to delete" in out  # the older one is in production
    cli("models", "promote", "cars", versions[2])
    assert cli("models", "prune", "cars", "--keep", "1")[1] == "cars: nothing to delete\n"  # a rollback needs it
    assert store.versions("cars") == [versions[0], versions[2]]


def test_history_tells_who_changed_what(cli: Cli, store: Store, versions: list[str]) -> None:
    cli("models", "promote", "cars", versions[1], "--reason", "better")
    cli("models", "rollback", "cars")
    document = json.loads(cli("models", "history", "cars", "--limit", "2", "--json")[1])
    assert [(line["action"], line["from"], line["to"], line["reason"]) for line in document] == [
        ("promote", versions[0], versions[1], "better"),
        ("rollback", versions[1], versions[0], ""),
    ]
    text = cli("models", "history")[1]
    assert text.index("promote") < text.index("rollback")
    assert document[0]["who"] in text


def test_diff_says_what_is_different(cli: Cli, store: Store, versions: list[str], tmp_path: Path) -> None:
    document = json.loads(cli("models", "diff", "cars", f"cars:{versions[1]}", "--json")[1])
    assert (document["a"], document["b"]) == (f"cars:{versions[0]}", f"cars:{versions[1]}")
    assert (document["same_task"], document["clients_notice"]) == (True, [])
    assert document["facts"]["seed"] == [0, 1]
    assert document["figures"][0]["difference"] == 0
    folder = shutil.copytree(store.open("clothes", store.versions("clothes")[0]).path, tmp_path / "folder")
    text = cli("models", "diff", "cars", str(folder))[1]
    assert "clients notice: tabular_regression became image_classification" in text
    assert cli("models", "diff", "cars", "cars:production", "--json")[1].count("{}") == 2


def test_a_version_moves_from_store_to_store_in_a_file(
    cli: Cli, store: Store, versions: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cli("models", "export", "cars", versions[1], "cars.tar")[0] == 0
    status, _, err = cli("models", "import", "cars.tar", "--name", "other")
    assert (status, "Leave out --name" in err) == (2, True)
    monkeypatch.setenv("SERVING_HOME", str(tmp_path / "elsewhere"))
    monkeypatch.setenv("SERVING_PRETRAINED", str(tmp_path / "nowhere"))
    assert cli("models", "import", "cars.tar") == (0, f"cars: nothing -> {versions[1]}\n", "")
    assert cli("models", "import", "cars.tar")[1].endswith(f"keras-serving models promote cars {versions[1]}\n")
    assert Store(tmp_path / "elsewhere").changes()[0].action == "import"


def test_a_hostile_archive_is_refused_in_one_line(cli: Cli, store: Store, versions: list[str], tmp_path: Path) -> None:
    cli("models", "export", "cars", "cars.tar")
    data = (tmp_path / "cars.tar").read_bytes()
    (tmp_path / "cars.tar").write_bytes(data[: len(data) // 2])
    status, out, err = cli("models", "import", "cars.tar")
    assert (status, out, len(err.splitlines())) == (1, "", 1)
    assert "no archive of a bundle" in err


def test_a_keras_file_is_imported_into_service_and_its_labels_do_not_change_silently(
    cli: Cli, home: Path, tmp_path: Path
) -> None:
    import keras

    layers = [keras.layers.Rescaling(1 / 255), keras.layers.Flatten(), keras.layers.Dense(3, activation="softmax")]
    keras.Sequential([keras.Input((28, 28)), *layers]).save(tmp_path / "theirs.keras")
    importing = ("models", "import", "theirs.keras", "--name", "theirs")
    status, out, err = cli(*importing, "--labels", "bag,boot,coat")
    assert (status, err) == (0, "")
    assert "is the production version" in out
    Image.fromarray(rows_of(IMAGE, 1)[0, :, :, 0]).save(tmp_path / "a.png")
    assert json.loads(cli("predict", "theirs", "a.png")[1])["label"] in ("bag", "boot", "coat")
    status, _, err = cli(*importing, "--labels", "coat,boot,bag")
    assert status == 1
    assert "labels" in err
    assert "--breaking" in err
    assert cli(*importing, "--labels", "coat,boot,bag", "--breaking")[0] == 0
    assert len(Store(home).versions("theirs")) >= 1


def test_history_shows_a_reason_as_it_was_given_in_one_line_and_the_terminal_obeys_none(
    cli: Cli, store: Store, versions: list[str]
) -> None:
    store.set_alias("cars", versions[1], who="admin@::1", reason="[/x] [red] :smile:\n2026 forged \x1b[2J")
    code, text = cli("models", "history", "--limit", "1")[:2]
    assert code == 0
    assert "[/x] [red] :smile: 2026 forged  [2J" in text
    assert "\x1b" not in text
