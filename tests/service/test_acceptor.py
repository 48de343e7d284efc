"""A worker that has more connections than another leaves the next one to that, but not for ever."""

import asyncio
import errno
import os
import socket
from collections.abc import AsyncIterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from select import select
from typing import Any, cast

import pytest
from httpx import AsyncClient
from uvicorn import Config, Server

from service import acceptor
from service.acceptor import _LOOKS_S, Acceptor, Connections, spread_connections
from service.shares import Shares
from tests.service.conftest import until


class FakeShares:
    """What the others have is what a test says."""

    def __init__(self) -> None:
        self.others_have_fewer = False
        self.first: list[bool] = []
        self.surplus_is = 0.0
        self.asked = self.looks = 0
        self.connections = -1
        self.closed = False

    def ahead(self) -> bool:
        self.asked += 1
        return self.first.pop(0) if self.first else self.others_have_fewer

    def surplus(self) -> float:
        self.looks += 1
        return self.surplus_is

    def set(self, connections: int) -> None:
        self.connections = connections

    def close(self) -> None:
        self.closed = True


class Worker:
    """An acceptor and what it did."""

    def __init__(self, listening: socket.socket | None = None) -> None:
        self.listening = listening or socket.create_server(("127.0.0.1", 0))
        self.listening.setblocking(False)
        self.shares, self.connections = FakeShares(), Connections()
        self.accepted: list[socket.socket] = []
        self.fails, self.told = False, 0
        self.connects = asyncio.Event()
        self.connects.set()
        self.acceptor = Acceptor(self.listening, cast(Shares, self.shares), self.connections, self.connect)

    async def connect(self, connection: socket.socket) -> "Worker":
        await self.connects.wait()
        if self.fails:
            raise ConnectionResetError
        self.accepted.append(connection)
        self.connections.add(connection)
        return self

    def shutdown(self) -> None:
        """What uvicorn tells each connection when it stops."""
        self.told += 1

    def client(self) -> socket.socket:
        return socket.create_connection(self.listening.getsockname())

    def close(self) -> None:
        self.acceptor.close()
        for connection in self.accepted:
            connection.close()


@pytest.fixture
async def worker() -> AsyncIterator[Worker]:
    found = Worker()
    yield found
    found.close()


async def test_a_worker_that_is_not_ahead_accepts_and_counts_what_it_has(worker: Worker) -> None:
    with worker.client(), worker.client():
        await until(lambda: len(worker.accepted) == 2)
        await until(lambda: worker.shares.connections == 2)
        assert worker.accepted[0].getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        worker.connections.discard(worker.accepted[0])
        assert worker.shares.connections == 1


async def test_clients_that_come_together_are_taken_in_one_turn_of_the_loop(worker: Worker) -> None:
    with ExitStack() as stack:
        clients = [stack.enter_context(worker.client()) for _ in range(20)]
        turns = taken = 0
        async with asyncio.timeout(60):
            while taken < len(clients):
                await asyncio.sleep(0)
                # Not those in which the system has yet to hand over a connection that is made.
                turns += worker.shares.connections > taken
                taken = worker.shares.connections
        assert turns < len(clients) / 2
        await until(lambda: len(worker.accepted) == len(clients))


async def test_a_worker_that_is_ahead_leaves_a_connection_to_another(worker: Worker) -> None:
    worker.shares.others_have_fewer = True
    other = worker.listening.dup()
    with worker.client():
        await until(lambda: worker.shares.asked)
        taken, _ = other.accept()
    taken.close()
    other.close()
    assert worker.accepted == []


async def test_a_connection_that_nobody_takes_is_accepted_all_the_same(worker: Worker) -> None:
    worker.shares.others_have_fewer = True
    with worker.client():
        await until(lambda: worker.accepted)
    assert worker.shares.asked


async def test_where_another_worker_is_stuck_its_connections_are_taken_soon_and_the_loop_does_not_spin(
    worker: Worker,
) -> None:
    worker.shares.others_have_fewer = True
    with ExitStack() as stack:
        clients = [stack.enter_context(worker.client()) for _ in range(20)]
        await until(lambda: len(worker.accepted) == len(clients))
    # Once a client, and it is asked some times for each: hundreds of times.
    assert worker.shares.asked < 60


async def test_a_connection_is_taken_as_soon_as_the_others_have_as_many(worker: Worker) -> None:
    worker.shares.first = [True]
    with worker.client(), worker.client():
        await until(lambda: len(worker.accepted) == 2)
    assert worker.shares.asked <= 1 + len(_LOOKS_S) / 2, "with no patience lost"


async def test_an_acceptor_that_is_closed_while_it_waits_for_others_wakes_up_no_more(worker: Worker) -> None:
    worker.shares.others_have_fewer = True
    with worker.client():
        await until(lambda: worker.shares.asked)
        worker.acceptor.close()
        asked = worker.shares.asked
        await asyncio.sleep(2 * sum(_LOOKS_S))
    assert worker.shares.asked == asked


@dataclass(eq=False)
class Kept:
    """A connection that is kept open."""

    leaves: bool = False
    busy: bool = True


async def test_who_is_far_ahead_lets_half_of_what_is_too_much_go_until_that_has_gone(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(acceptor, "_LEVEL_S", 0.001)
    for _ in range(32):
        worker.connections.add(Kept())
    worker.shares.surplus_is = 16.0
    await until(lambda: sum(one.leaves for one in worker.connections) == 8)
    looks = worker.shares.looks
    await until(lambda: worker.shares.looks > looks + 3)
    assert sum(one.leaves for one in worker.connections) == 8, "before they have gone, no more"
    worker.shares.surplus_is = 4.0
    await until(lambda: not any(one.leaves for one in worker.connections))


async def test_connections_with_a_request_under_way_are_let_go_before_idle_ones(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(acceptor, "_LEVEL_S", 0.001)
    for number in range(32):
        worker.connections.add(Kept(busy=number % 4 == 0))
    worker.shares.surplus_is = 20.0
    await until(lambda: sum(one.leaves for one in worker.connections) == 10)
    assert sum(one.leaves and one.busy for one in worker.connections) == 8


async def test_who_is_a_little_ahead_lets_nobody_go(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(acceptor, "_LEVEL_S", 0.001)
    for _ in range(4):
        worker.connections.add(Kept())
    worker.shares.surplus_is = 2.0
    looks = worker.shares.looks
    await until(lambda: worker.shares.looks > looks + 3)
    assert not any(one.leaves for one in worker.connections)


async def test_who_gets_back_all_that_it_lets_go_lets_them_go_ever_less_often(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(acceptor, "_LEVEL_S", 0.001)
    worker.shares.surplus_is = 16.0
    for _ in range(10):
        # Each client has left and come again by the next look.
        worker.connections.clear()
        for _ in range(32):
            worker.connections.add(Kept())
        worker.acceptor._level()
    assert worker.acceptor._level_s >= 0.128


class Failing(socket.socket):
    """A listening socket that fails as often as it is told, and then accepts."""

    def __init__(self, *errors: int) -> None:
        super().__init__()
        self.errors = list(errors)
        self.bind(("127.0.0.1", 0))
        self.listen()

    def accept(self) -> tuple[socket.socket, Any]:
        if self.errors:
            number = self.errors.pop(0)
            raise OSError(number, os.strerror(number))
        return super().accept()


async def test_the_error_of_one_client_holds_up_no_other() -> None:
    worker = Worker(Failing(errno.EPROTO, errno.ECONNABORTED, errno.EHOSTUNREACH))
    with worker.client():
        # In no turn of the loop: the system may take a moment to hand the connection over.
        select([worker.listening], [], [], 60)
        turns = 0
        while worker.shares.connections < 1:
            await asyncio.sleep(0)
            turns += 1
        assert turns < 10
        await until(lambda: worker.accepted)
    worker.close()


async def test_where_no_descriptor_is_left_that_is_said_and_tried_again_later(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(acceptor, "_RETRY_S", 0.05)
    worker = Worker(Failing(errno.EMFILE, errno.EMFILE))
    with worker.client():
        await until(lambda: worker.accepted)
    worker.close()
    assert [record.message for record in caplog.records] == ["no connection can be accepted; next try in 0.05 s"] * 2


async def test_a_connection_that_comes_to_nothing_does_not_count(worker: Worker) -> None:
    worker.fails = True
    with worker.client() as client:
        assert await asyncio.to_thread(client.recv, 1) == b""
    await until(lambda: worker.shares.connections == 0)


async def test_a_closed_acceptor_accepts_nothing_and_gives_its_share_back(worker: Worker) -> None:
    address = worker.listening.getsockname()
    worker.acceptor.close()
    await worker.acceptor.wait_closed()
    assert worker.shares.closed
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address)
    worker.connections.add(object())
    assert worker.shares.connections == 0, "the share is another's now"


async def test_a_connection_that_is_made_while_the_server_stops_is_told_of_that(worker: Worker) -> None:
    worker.connects.clear()
    with worker.client():
        await until(lambda: worker.shares.connections == 1)
        worker.acceptor.close()
        worker.connects.set()
        await until(lambda: worker.accepted)
    await until(lambda: worker.told)
    assert worker.told == 1


async def hello(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"hi"})


async def test_one_worker_alone_takes_its_connections_itself_too_and_stops_as_uvicorn_does(tmp_path: Path) -> None:
    server = Server(Config(hello, port=0, lifespan="off", log_level="critical"))
    spreading = spread_connections(server, tmp_path / "none", workers=1)
    serving = asyncio.create_task(server.serve())
    await spreading
    (acceptor,) = server.servers
    assert isinstance(acceptor, Acceptor)
    (listening,) = acceptor.sockets
    async with AsyncClient(base_url=f"http://127.0.0.1:{listening.getsockname()[1]}") as client:
        assert (await client.get("/")).text == "hi"
        assert len(server.server_state.connections) == 1
    server.should_exit = True
    await serving
    assert acceptor.sockets == ()
    assert not (tmp_path / "none").exists()
