"""Rows through a graph: two engines, one answer, and nothing deserialised before its hash is checked."""

import shutil
import threading
import zipfile
from pathlib import Path
from time import process_time, sleep
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import numpy_helper

from models.bundle import GOLDEN, KERAS, ONNX, Bundle
from models.engines import check_golden, open_engine
from models.engines.onnx import OnnxEngine
from models.errors import BundleError, EngineError
from models.task import Task
from tests.bundles import CARS, IMAGE, SERIES, graph_of, make_bundle, rows_of, run_offline
from tests.conftest import MakeBundle


class Scripted:
    """An engine that answers with what a function gives."""

    name, device, in_flight, padded, split_rows = "scripted", "cpu", 1, "", 0

    def __init__(self, function: Any) -> None:
        self.function = function
        self.batches: list[int] = []

    def run(self, rows: NDArray[Any]) -> NDArray[np.float32]:
        self.batches.append(len(rows))
        return self.function(rows)  # type: ignore[no-any-return]

    def close(self) -> None:
        pass


def altered(bundle: Bundle, name: str) -> Bundle:
    """The bundle with one bit of one file flipped, its manifest as it was."""
    data = bytearray(bundle.read(name))
    data[len(data) // 2] ^= 1
    (bundle.path / name).write_bytes(data)
    return bundle


@pytest.mark.parametrize("task", [IMAGE, CARS, SERIES], ids=lambda task: task.kind)
def test_onnx_gives_float32_rows_of_the_tasks_shape_for_any_number_of_rows(task: Task, bundle_of: MakeBundle) -> None:
    bundle = bundle_of(task, "any")
    engine = open_engine(bundle, kind="onnx", device="cpu")
    for count in (1, 2, 65):
        rows = rows_of(task, count)
        outputs = engine.run(rows)
        assert outputs.dtype == np.float32
        assert outputs.shape == (count, *task.output_shape)
        np.testing.assert_array_equal(outputs, run_offline(bundle, rows))
    assert (engine.name, engine.device, engine.in_flight) == ("onnx", "cpu", 1)


def test_a_row_gets_the_same_answer_alone_and_in_a_batch(bundle_of: MakeBundle) -> None:
    engine = open_engine(bundle_of(IMAGE, "clothes"))
    rows = rows_of(IMAGE, 33)
    together = engine.run(rows)
    alone = np.concatenate([engine.run(rows[i : i + 1]) for i in range(len(rows))])
    np.testing.assert_allclose(together, alone, atol=1e-6)


def test_an_engine_runs_in_several_threads_at_once(bundle_of: MakeBundle) -> None:
    bundle = bundle_of(CARS)
    engine = open_engine(bundle)
    rows = [rows_of(CARS, 16, seed) for seed in range(4)]
    answers: dict[int, list[NDArray[np.float32]]] = {}

    def work(i: int) -> None:
        answers[i] = [engine.run(rows[i]) for _ in range(20)]

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for i in range(4):
        expected = run_offline(bundle, rows[i])
        assert all((answer == expected).all() for answer in answers[i])


def test_onnx_does_not_deserialise_an_altered_graph(bundle_of: MakeBundle, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = altered(bundle_of(), ONNX)
    opened: list[object] = []
    monkeypatch.setattr(onnxruntime, "InferenceSession", lambda *args, **_: opened.append(args))
    with pytest.raises(BundleError, match=r"model\.onnx does not match"):
        open_engine(bundle, kind="onnx")
    assert not opened


def test_onnx_runs_the_bytes_that_were_verified_and_not_the_path(
    bundle_of: MakeBundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = bundle_of()
    real, given = onnxruntime.InferenceSession, []

    def spy(source: Any, *args: Any, **options: Any) -> Any:
        given.append(source)
        return real(source, *args, **options)

    monkeypatch.setattr(onnxruntime, "InferenceSession", spy)
    open_engine(bundle, kind="onnx")
    assert given == [bundle.read(ONNX)]


def test_threads_wait_awake_for_the_next_node_and_not_for_the_next_batch(bundle_of: MakeBundle) -> None:
    bundle = bundle_of(IMAGE, "clothes")
    engine = OnnxEngine(bundle, device="cpu", threads=2)
    options = engine._split.get_session_options()
    assert options.intra_op_num_threads == 2
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "1"
    assert int(options.get_session_config_entry("session.intra_op.spin_duration_us")) <= 50
    golden = bundle.golden()[0]
    rows = np.resize(golden, (4096, *golden.shape[1:]))
    cpu_s = []
    for _ in range(5):
        engine._run_in(engine._split, rows)
        began = process_time()
        sleep(0.05)
        cpu_s.append(process_time() - began)
    # As they come, they would spin for most of it.
    assert min(cpu_s) < 0.005


def test_a_graph_that_onnxruntime_refuses_is_an_engine_error(bundle_of: MakeBundle) -> None:
    bundle = bundle_of()
    (bundle.path / ONNX).write_bytes(b"no graph at all")
    with pytest.raises(EngineError, match="onnxruntime refuses"):
        open_engine(bundle.resealed(bundle.path), kind="onnx")


@pytest.mark.parametrize("rows", [np.zeros((1, 4), np.float32), np.zeros((1, 3), np.float64)])
def test_rows_of_another_shape_or_type_are_an_engine_error(bundle_of: MakeBundle, rows: NDArray[Any]) -> None:
    with pytest.raises(EngineError, match="failed on 1 rows"):
        open_engine(bundle_of()).run(rows)


def test_asking_for_a_gpu_that_is_not_there_is_an_engine_error(bundle_of: MakeBundle) -> None:
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        assert open_engine(bundle_of(), kind="onnx", device="auto").device in {"cpu", "gpu"}
        return
    with pytest.raises(EngineError, match="no CUDA provider"):
        open_engine(bundle_of(), kind="onnx", device="gpu")


@pytest.mark.skipif(
    "CUDAExecutionProvider" not in onnxruntime.get_available_providers(),
    reason="needs a GPU and requirements/gpu.txt",
)
def test_onnx_on_a_gpu_passes_the_golden_rows_with_two_batches_in_flight(bundle_of: MakeBundle) -> None:
    bundle = bundle_of(IMAGE, "clothes")
    engine = open_engine(bundle, device="gpu")
    assert (engine.device, engine.in_flight) == ("gpu", 2)
    assert check_golden(engine, bundle) <= bundle.manifest.golden_tolerance


def test_onnx_can_be_asked_for_only_where_there_is_a_graph(bundle_of: MakeBundle) -> None:
    with pytest.raises(BundleError, match="lists no"):
        open_engine(bundle_of(CARS, "bare", onnx_graph=False), kind="onnx")


def test_golden_rows_give_the_largest_difference(bundle_of: MakeBundle) -> None:
    bundle = bundle_of()
    assert check_golden(open_engine(bundle), bundle) == 0
    off = Scripted(lambda rows: run_offline(bundle, rows) + np.float32(4e-6))
    assert check_golden(off, bundle) == pytest.approx(4e-6, rel=0.2)


@pytest.mark.parametrize("error", [2e-5, np.inf, np.nan])
def test_one_wrong_number_on_the_golden_rows_is_refused(bundle_of: MakeBundle, error: float) -> None:
    bundle = bundle_of()

    def wrong(rows: NDArray[Any]) -> NDArray[np.float32]:
        outputs = run_offline(bundle, rows)
        outputs[3, 1] += np.float32(error)
        return outputs

    with pytest.raises(EngineError, match="differs from training"):
        check_golden(Scripted(wrong), bundle)


def test_another_output_shape_on_the_golden_rows_is_refused(bundle_of: MakeBundle) -> None:
    bundle = bundle_of()
    with pytest.raises(EngineError, match="training saw"):
        check_golden(Scripted(lambda rows: run_offline(bundle, rows)[:, :1]), bundle)


def test_golden_rows_run_in_batches(bundle_of: MakeBundle) -> None:
    bundle = bundle_of()
    engine = Scripted(lambda rows: run_offline(bundle, rows))
    check_golden(engine, bundle, batch_rows=3)
    assert engine.batches == [3, 3, 2]


# The second engine, on a tiny real Keras model.


@pytest.fixture(scope="module")
def keras() -> Any:
    import keras

    return keras


@pytest.fixture(scope="module")
def twin(keras: Any, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A bundle whose Keras model and ONNX graph hold the same weights."""
    bundle = make_bundle(tmp_path_factory.mktemp("twin"), "cars", CARS)
    graph = onnx.load_from_string(graph_of(CARS, 0)).graph
    weights = next(numpy_helper.to_array(tensor) for tensor in graph.initializer if tensor.name == "weights")
    rows = keras.Input((3,), name="rows")
    dense = keras.layers.Dense(3, use_bias=False)
    model = keras.Model(rows, dense(rows))
    dense.set_weights([weights])
    model.save(bundle.path / KERAS)
    return bundle.resealed(bundle.path)


@pytest.fixture
def own_twin(twin: Bundle, tmp_path: Path) -> Bundle:
    return Bundle.open(Path(shutil.copytree(twin.path, tmp_path / "twin")))


def test_the_engines_agree_on_every_number_of_rows(twin: Bundle) -> None:
    tensorflow, other = open_engine(twin, kind="tensorflow", device="cpu"), open_engine(twin, kind="onnx")
    assert (tensorflow.name, tensorflow.device, tensorflow.in_flight) == ("tensorflow", "cpu", 1)
    # Around the padded sizes, and above the largest of them.
    for count in (1, 2, 3, 5, 8, 9, 256, 257, 600):
        rows = rows_of(CARS, count, seed=count)
        outputs = tensorflow.run(rows)
        assert outputs.dtype == np.float32
        assert outputs.shape == (count, 3)
        np.testing.assert_allclose(outputs, other.run(rows), atol=1e-5, rtol=0)


def test_both_pass_the_golden_rows(twin: Bundle) -> None:
    for kind in ("tensorflow", "onnx"):
        assert check_golden(open_engine(twin, kind=kind), twin) <= 1e-5


def test_onnx_is_the_first_choice(twin: Bundle) -> None:
    assert open_engine(twin).name == "onnx"


def test_a_bundle_without_a_graph_is_served_by_tensorflow(own_twin: Bundle) -> None:
    (own_twin.path / ONNX).unlink()
    bare = own_twin.resealed(own_twin.path)
    engine = open_engine(bare)
    assert engine.name == "tensorflow"
    assert check_golden(engine, bare) <= 1e-5


def test_an_altered_keras_file_is_not_deserialised(
    own_twin: Bundle, keras: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    altered(own_twin, KERAS)
    loaded: list[object] = []
    monkeypatch.setattr(keras.saving, "load_model", lambda *args, **_: loaded.append(args))
    with pytest.raises(BundleError, match=r"model\.keras does not match"):
        open_engine(own_twin, kind="tensorflow")
    assert not loaded


def test_a_lambda_layer_is_refused_and_never_run(own_twin: Bundle, keras: Any, tmp_path: Path) -> None:
    mark = tmp_path / "was-run"
    source = f"__import__('pathlib').Path({str(mark)!r}).touch()"
    rows = keras.Input((3,), name="rows")
    malicious = keras.layers.Lambda(lambda x: (exec(source), x)[1])  # noqa: S102 - it must never run
    keras.Model(rows, malicious(rows)).save(own_twin.path / KERAS)
    mark.unlink()  # Building the model has run it once.
    with pytest.raises(EngineError, match=r"(?s)Keras refuses .*[Ll]ambda"):
        open_engine(own_twin.resealed(own_twin.path), kind="tensorflow")
    assert not mark.exists()


def test_a_file_that_keras_cannot_read_is_an_engine_error(own_twin: Bundle) -> None:
    with zipfile.ZipFile(own_twin.path / KERAS, "w") as archive:
        archive.writestr("config.json", "{}")
    with pytest.raises(EngineError, match="Keras refuses"):
        open_engine(own_twin.resealed(own_twin.path), kind="tensorflow")


def test_rows_of_another_shape_are_an_engine_error(twin: Bundle) -> None:
    with pytest.raises(EngineError, match="failed on 1 rows"):
        open_engine(twin, kind="tensorflow").run(np.zeros((1, 4), np.float32))


def test_a_graph_that_disagrees_with_the_golden_rows_is_refused(own_twin: Bundle) -> None:
    rows, outputs = own_twin.golden()
    np.savez(own_twin.path / GOLDEN, rows=rows, outputs=outputs + 1)
    shifted = own_twin.resealed(own_twin.path)
    for kind in ("tensorflow", "onnx"):
        with pytest.raises(EngineError, match="differs from training by 1"):
            check_golden(open_engine(shifted, kind=kind), shifted)
