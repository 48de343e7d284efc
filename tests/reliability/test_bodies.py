"""Bodies too large, in too many pieces, too deep, or not what they say: each gets its 4xx, and costs little."""

import gzip
import io
import pickle
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from service.settings import Settings
from tests.bundles import CARS, IMAGE, make_bundle
from tests.e2e.server import Server, running
from tests.figures import Figure
from tests.reliability.payloads import (
    BAD_JSON,
    BAD_PIXELS,
    GOOD,
    Opens,
    chunked,
    filled,
    form,
    gradient,
    large_png,
    npy,
    padded,
    png,
    png_of,
)
from tests.reliability.probe import JSON, Reply, Worker, cpu_s, exchange, head, somebody_else, whole

LIMIT = int(Settings.model_fields["max_body_bytes"].default)
RECEIVE_S = 5.0
MIB = 2**20
PIXELS = int(Settings.model_fields["max_picture_pixels"].default)
PICTURE, NPY, CARS_PATH = "/predict/clothes", "application/x-npy", "/predict/cars"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Two small models, limits as shipped, but for the patience with what never comes or waits for its turn."""
    folder = tmp_path_factory.mktemp("bodies")
    for name, task in (("clothes", IMAGE), ("cars", CARS)):
        make_bundle(folder / "pre", name, task)
    # On a slow machine no large picture is refused: how many wait is what these tests are about.
    patience = {"SERVING_RECEIVE_S": str(RECEIVE_S), "SERVING_MAX_QUEUE_S": "60"}
    with running(folder / "home", pretrained=folder / "pre", **patience) as found:
        # What a worker allocates once: threads for large bodies, Pillow's decoders.
        exchange(found, whole(CARS_PATH, padded(LIMIT)))
        exchange(found, whole(PICTURE, png(Image.new("L", (4000, 4000))), "image/png"))
        yield found


@pytest.fixture(scope="module")
def deep() -> bytes:
    """A picture as large as one may be, in few bytes, of the kind that takes most to prepare: 16 bits a pixel."""
    return png(Image.fromarray(np.zeros((4000, PIXELS // 4000), np.uint16)))


def ask(server: Server, path: str, body: bytes, content_type: str = JSON) -> Reply:
    return exchange(server, whole(path, body, content_type))


@pytest.mark.reliability(14, "a body one byte above the limit is 413, however its length is told, and memory is flat")
@pytest.mark.parametrize("rounds", [4, pytest.param(20, marks=pytest.mark.slow)])
def test_a_byte_more_than_the_limit_is_413_however_its_length_is_told(
    server: Server, figure: Figure, rounds: int
) -> None:
    worker, told = Worker.of(server), "Content-Length: {}"
    endless = b"%x\r\n%b\r\n" % (MIB, b" " * MIB)
    never_whole = head(CARS_PATH, JSON, told.format(len(GOOD) + 1)), GOOD

    def all_ways() -> list[int]:
        replies = [
            exchange(server, whole(CARS_PATH, padded(LIMIT))),
            exchange(server, *chunked(CARS_PATH, padded(LIMIT), 60_000)),
            exchange(server, whole(CARS_PATH, padded(LIMIT + 1))),
            exchange(server, head(CARS_PATH, JSON, told.format(LIMIT + 1))),
            exchange(server, head(CARS_PATH, JSON, told.format(2**60)), GOOD),
            exchange(server, *chunked(CARS_PATH, padded(LIMIT + 1), 60_000)),
            exchange(server, head(CARS_PATH, JSON, "Transfer-Encoding: chunked"), *[endless] * (4 * LIMIT // MIB)),
            # Others than what comes: too few, too many, two answers to the question.
            exchange(server, head(CARS_PATH, JSON, told.format(len(GOOD) - 1)), padded(LIMIT + 1)),
            exchange(server, head(CARS_PATH, JSON, told.format(1), told.format(len(GOOD))), GOOD),
            exchange(server, head(CARS_PATH, JSON, told.format(5), "Transfer-Encoding: chunked"), b"0\r\n\r\n"),
        ]
        return [reply.status for reply in replies]

    expected = [200, 200, 413, 413, 413, 413, 413, 400, 400, 400]
    with worker.peak() as peak, ThreadPoolExecutor(1 + rounds) as senders:
        # Each is given up after RECEIVE_S: all of them at once, beside the others.
        given_up = [senders.submit(exchange, server, *never_whole) for _ in range(1 + rounds)]
        assert all_ways() == expected
        before = worker.resident_mib()
        for _ in range(rounds):
            assert all_ways() == expected
        assert [reply.result().status for reply in given_up] == [408] * (1 + rounds)
        grown, most = worker.resident_mib() - before, peak()
    figure(
        f"{len(expected) + 1} ways to tell a length, {1 + rounds} times: {most:.0f} MiB more at most, "
        f"{grown:+.1f} MiB afterwards"
    )
    assert most < 6 * LIMIT / MIB
    # The last body may still lie there, or have lain there before: four would, if one stayed each round.
    assert grown < 2 * LIMIT / MIB


@pytest.mark.reliability(15, "a million one-byte chunks are one body, and hold nobody up")
def test_a_million_chunks_of_one_byte_hold_nobody_up(server: Server, figure: Figure) -> None:
    worker = Worker.of(server)
    request = chunked(CARS_PATH, padded(1_000_000), 1)
    with worker.peak() as peak, somebody_else(server, CARS_PATH, GOOD) as others:
        reply = exchange(server, *request)
        longest, most = max(others), peak()
    assert reply.status == 200
    figure(
        f"answered in {reply.seconds:.2f} s; {len(others)} requests of somebody else meanwhile, the slowest "
        f"{1000 * longest:.0f} ms; {most:.1f} MiB more at most"
    )
    assert len(others) > 2
    assert longest < reply.seconds
    assert most < 30


@pytest.mark.reliability(
    16, "JSON too deep, infinite, huge, doubled, misshapen or mistyped is a 4xx that names what is wrong"
)
def test_bad_json_is_a_4xx_that_names_what_is_wrong(server: Server, figure: Figure) -> None:
    wrong = []
    for path, bodies in ((CARS_PATH, BAD_JSON), (PICTURE, BAD_PIXELS)):
        for body, named in bodies.items():
            reply = ask(server, path, body)
            if not 400 <= reply.status < 500 or named not in reply.body.decode() or len(reply.body) > 1000:
                wrong.append((body[:100], reply.status, reply.body[:300]))
    assert not wrong, "\n".join(map(str, wrong))
    figure(f"{len(BAD_JSON) + len(BAD_PIXELS)} bodies, none taken, each with its field")


@pytest.mark.reliability(16, "a text as long as a body may be, with a colon beside it, is 4xx in bounded memory")
def test_a_text_as_long_as_a_body_may_be_is_4xx_in_bounded_memory(server: Server, figure: Figure) -> None:
    start, end = b'{"instances":["', b'"],"x":":"}'
    text = b"A" * (LIMIT - len(start) - len(end))
    with Worker.of(server).peak() as peak:
        reply = ask(server, CARS_PATH, start + text + end)
        most = peak()
    assert 400 <= reply.status < 500
    figure(f"a body of {LIMIT / MIB:.0f} MiB: {most:.0f} MiB more at most")
    assert most < 6 * LIMIT / MIB


@pytest.mark.reliability(16, "JSON that would become thirty times its size is 4xx in bounded memory, compressed or not")
def test_json_that_would_become_many_times_its_size_is_4xx_in_bounded_memory(server: Server, figure: Figure) -> None:
    bombs = [filled(b'{"instances":[', piece, b"]}", LIMIT) for piece in (b"[],", b'{"a":{"a":{}}},')]
    # Just below what a thousand pictures have pixel by pixel: parsed, one after the other.
    nearly = filled(b'{"instances":[[', b"[],", b"]]}", 2_500_000)
    bodies = [(PICTURE, bombs[0]), (CARS_PATH, bombs[1]), ("/predict", bombs[1]), (PICTURE, nearly)] * 2
    small = [
        head(path, JSON, f"Content-Length: {len(data)}", "Content-Encoding: gzip") + data
        for path, data in ((path, gzip.compress(body, 1)) for path, body in bodies)
    ]
    with Worker.of(server).peak() as peak, ThreadPoolExecutor(len(small)) as senders:
        replies = list(senders.map(lambda request: exchange(server, request), small))
        plain = [ask(server, path, body).status for path, body in bodies[:4]]
        most = peak()
    assert [reply.status for reply in replies] == [413, 413, 413, 422] * 2
    assert plain == [413, 413, 413, 422]
    figure(f"{len(small)} at once of up to {LIMIT / MIB:.0f} MiB inflated: {most:.0f} MiB more at most")
    assert most < 32 * LIMIT / MIB, "one alone was 500 MiB, eight were 2,700"


@pytest.mark.reliability(
    17, "pictures of 100 megapixels, cut, or of formats that nobody asked for are 4xx in bounded memory"
)
def test_a_picture_too_large_cut_or_of_another_format_is_4xx_in_bounded_memory(server: Server, figure: Figure) -> None:
    jpeg = io.BytesIO()
    gradient(500).save(jpeg, "JPEG")
    photograph, good = jpeg.getvalue(), png(gradient(28))
    pictures = {
        "100 megapixels": (large_png(10_000), 422),
        "declares 4 exapixels": (png_of(2**31 - 1, b""), 400),
        "truncated JPEG": (photograph[: len(photograph) // 2], 400),
        "truncated PNG": (good[: len(good) // 2], 400),
        "EPS": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 28 28\n", 400),
        "FITS": (b"SIMPLE  =                    T".ljust(2880), 400),
        "PSD": (b"8BPS\0\x01" + b"\0" * 100, 400),
        "GIF": (b"GIF89a\x1c\0\x1c\0" + b"\0" * 100, 400),
        "SVG": (b'<svg xmlns="http://www.w3.org/2000/svg"><image href="http://localhost/"/></svg>', 400),
    }
    wrong = []
    with Worker.of(server).peak() as peak:
        for name, (data, status) in pictures.items():
            for content_type in ("image/png", "image/jpeg"):
                reply = ask(server, PICTURE, data, content_type)
                if reply.status != status or b"body" not in reply.body:
                    wrong.append((name, reply))
        most = peak()
    assert not wrong, wrong
    figure(f"{len(pictures)} pictures, each called PNG and JPEG: {most:.1f} MiB more at most")
    assert most < 25, "100 megapixels would be 95 MiB"


@pytest.mark.reliability(17, "pictures just below the limit take bounded memory, however many come at once")
def test_pictures_just_below_the_limit_take_bounded_memory_however_many_come(
    server: Server, deep: bytes, figure: Figure
) -> None:
    clear = png(Image.new("RGBA", (4000, PIXELS // 4000), (1, 2, 3, 4)))
    pictures = [deep, deep, clear] * 2
    with Worker.of(server).peak() as peak, ThreadPoolExecutor(len(pictures)) as senders:
        replies = list(senders.map(lambda data: ask(server, PICTURE, data, "image/png"), pictures))
        most = peak()
    assert [reply.status for reply in replies] == [200] * len(pictures)
    figure(f"{len(pictures)} of 24 megapixels at once, 16-bit grey and transparent ones: {most:.0f} MiB more at most")
    assert most < 12 * PIXELS / MIB, "one alone had 570 MiB as numbers of 8 bytes"


@pytest.mark.reliability(17, "large pictures hold up no other bodies, and are not decoded for who has left")
def test_large_pictures_hold_up_no_other_bodies_and_end_with_their_senders(
    server: Server, deep: bytes, figure: Figure
) -> None:
    worker, upload = Worker.of(server), "multipart/form-data; boundary=b"
    files, deadline = [('name="f"; filename="a"', deep)] * 5, "X-Request-Timeout-Ms: 500"
    body = form(*files[:4])
    late = head(PICTURE, upload, f"Content-Length: {len(body)}", deadline) + body
    began = cpu_s(worker.pid)
    assert ask(server, PICTURE, deep, "image/png").status == 200
    one, began = cpu_s(worker.pid) - began, cpu_s(worker.pid)
    with ThreadPoolExecutor(9) as senders:
        asked = [senders.submit(exchange, server, late) for _ in range(8)]
        # One that waits for its answer: on a busy machine the others may have left before anybody else has asked.
        patient = senders.submit(ask, server, PICTURE, body, upload)
        other = ask(server, CARS_PATH, padded(100_000))
        held_up = patient.done()
        statuses = {reply.result().status for reply in asked}
        assert patient.result().status == 200
    after = ask(server, PICTURE, deep, "image/png")
    spent = cpu_s(worker.pid) - began
    assert (statuses, other.status, after.status) == ({504}, 200, 200)
    assert not held_up
    assert ask(server, PICTURE, form(*files), upload).status == 413
    figure(
        f"beside 36 of 24 megapixels in 9 requests, 8 with a deadline, 100 kB of JSON took "
        f"{1000 * other.seconds:.0f} ms; one takes {one:.2f} s of CPU, all of it took {spent:.2f} s"
    )
    assert spent < 20 * one


@pytest.mark.reliability(
    18, "npy with objects, a giant shape or negative dimensions is 4xx before anything is allocated"
)
def test_npy_that_declares_what_it_has_not_is_4xx_before_allocation(server: Server, figure: Figure) -> None:
    assert ask(server, PICTURE, npy("(1, 28, 28, 1)"), NPY).status == 200
    marker = Path(server.home).with_name("unpickled")
    objects = io.BytesIO()
    np.save(objects, np.array([Opens(marker)], dtype=object), allow_pickle=True)
    arrays = {
        "objects": objects.getvalue(),
        "objects, declared": npy("(784,)", "'|O'"),
        "giant": npy("(1000000000, 28, 28, 1)"),
        "beyond 64 bits": npy(f"({2**40}, {2**40})"),
        "wraps to 784": npy(f"({2**64 + 784},)"),
        "negative": npy("(-1, 28, 28, 1)"),
        "two negatives": npy("(-1, -784)"),
        "a float": npy("(784.0,)"),
        "true": npy("(True, 784)"),
        "a name": npy("(__import__('os'),)"),
        "records": npy("(1,)", "[('a', '|u1', 784)]"),
        "text": npy("(1, 28, 28, 1)", "'<U1'"),
        "one byte less": npy("(1, 28, 28, 1)", data=b"\0" * 783),
        "one byte more": npy("(1, 28, 28, 1)", data=b"\0" * 785),
        "a header of 4 GiB": b"\x93NUMPY\x02\x00\xff\xff\xff\xff" + b" " * 1000,
        "another model's shape": npy("(1, 27, 28, 1)", data=b"\0" * 756),
        "no rows": npy("(0, 28, 28, 1)", data=b""),
    }
    with Worker.of(server).peak() as peak:
        replies = {name: ask(server, PICTURE, body, NPY) for name, body in arrays.items()}
        most = peak()
    assert not {name: reply for name, reply in replies.items() if not 400 <= reply.status < 500}
    assert not marker.exists()
    figure(f"{len(arrays)} arrays: {most:.1f} MiB more at most")
    assert most < 10


@pytest.mark.reliability(
    19, "forms of 10,000 parts, oversized headers or boundaries, or a URL in the place of a file are 4xx"
)
def test_a_form_that_is_more_than_files_is_4xx(server: Server, figure: Figure) -> None:
    picture = png(gradient(28))
    upload = "multipart/form-data; boundary={}".format
    assert ask(server, PICTURE, form(('name="f"; filename="a"', picture)), upload("b")).status == 200
    forms = {
        "10,000 parts": (form(*[('name="f"; filename="a"', b"x")] * 10_000), "b", 413),
        "part header": (form((f'name="f"; filename="{"a" * 100_000}"', picture)), "b", 400),
        "many part headers": (form(('name="f"; filename="a"\r\n' + "X: y\r\n" * 10_000 + "X: y", picture)), "b", 400),
        "boundary of 60 kB": (form(('name="f"; filename="a"', picture), boundary="b" * 60_000), "b" * 60_000, 400),
        "boundary of 1 MB": (form(('name="f"; filename="a"', picture), boundary="b" * MIB), "b" * MIB, 431),
        "URL": (form(('name="url"', b"http://localhost/cat.png")), "b", 400),
        "URL as a file": (form(('name="f"; filename="a"', b"http://localhost/cat.png")), "b", 400),
        "form in a form": (form(('name="f"; filename="a"', form(('name="g"; filename="b"', picture)))), "b", 400),
        "no end": (form(('name="f"; filename="a"', picture))[:-6], "b", 400),
        "no parts": (b"--b--\r\n", "b", 400),
    }
    wrong = []
    with Worker.of(server).peak() as peak:
        for name, (body, boundary, status) in forms.items():
            reply = ask(server, PICTURE, body, upload(boundary))
            if reply.status != status or len(reply.body) > 1000:
                wrong.append((name, reply))
        most = peak()
    assert not wrong, wrong
    figure(f"{len(forms)} forms: {most:.1f} MiB more at most")
    assert most < 25


@pytest.mark.reliability(20, "pickles are 415 on every route that takes a body, and are never loaded")
def test_a_pickle_is_415_everywhere_and_never_loaded(server: Server, figure: Figure) -> None:
    marker = Path(server.home).with_name("unpickled")
    body = pickle.dumps(Opens(marker))
    types = ("application/vnd.bentoml+pickle", "application/x-pickle", "application/python-pickle")
    types += (
        "Application/VND.BentoML+Pickle",
        "application/vnd.bentoml+pickle; charset=utf-8",
        "application/octet-stream",
    )
    statuses = {
        (path, content_type): ask(server, path, body, content_type).status
        for path in (PICTURE, CARS_PATH, "/predict")
        for content_type in types
    }
    assert set(statuses.values()) == {415}, statuses
    # The other protocols have JSON only, whatever it is called.
    others = ("/v1/models/cars:predict", "/v2/models/cars/infer", "/feedback")
    assert all(400 <= ask(server, path, body, content_type).status < 500 for path in others for content_type in types)
    assert not marker.exists()
    figure(f"{len(statuses)} combinations of route and type are 415, {len(others) * len(types)} of JSON alone 4xx")
