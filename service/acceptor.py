"""Accepts connections, all that wait at once, and spreads them evenly over the worker processes.

The workers wait at one listening socket, and whoever is first takes all that is there: of 32 connections that are kept
open one worker may get 29, and works while the other waits. So a worker that has more connections than another leaves
the next one to that, for a while: none is ever left alone because another worker is stuck.

The clients of a worker that ends come to the others, and keep those connections. So one that is far ahead of its share
lets some answers close theirs: their clients come again, to whichever worker has fewer.
"""

import asyncio
import errno
import logging
import os
import socket
from collections.abc import Awaitable, Callable
from math import ceil
from pathlib import Path
from typing import Any, cast

from uvicorn import Server

from service.shares import Alone, Shares

logger = logging.getLogger(__name__)

# A worker that has more connections than another leaves the next one to the others for the sum of these pauses, and
# looks after each whether they have caught up. The first ones are turns of the loop, so that clients who come together
# are spread quickly; then a timer's, so that a worker that is stuck costs the others no CPU. Seconds.
_LOOKS_S = (0.0, 0.0, 0.0, 0.0, 0.001, 0.001, 0.001, 0.002)
# Connections taken in one turn of the event loop. One a turn, as libuv takes them, lets the last of 256 clients that
# come together wait for more than a second while those before it are answered.
_AT_ONCE = 64
# Errors of accept(2) that concern one connection, which was lost before it was accepted; the next one may be fine.
_OF_ONE_CLIENT = frozenset(
    {
        *(errno.ECONNABORTED, errno.EPERM, errno.EPROTO, errno.ENOPROTOOPT, errno.EOPNOTSUPP, errno.ETIMEDOUT),
        *(errno.ENETDOWN, errno.ENETUNREACH, errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ENONET),
    }
)
# Pause after any other error, such as too many open files; asyncio's is as long. Seconds.
_RETRY_S = 1.0
# How often a worker looks whether it is ahead of its share, and how seldom where the others take nothing. Seconds.
_LEVEL_S, _LEVEL_SELDOM_S = 1.0, 60.0
# Ahead is who has more than so many above an even share, and than this part of its own.
_FEW, _PART = 3, 1 / 4


def _nothing() -> None:
    pass


class Connections(set[Any]):
    """uvicorn's set of open connections, which calls ``changed`` after every change."""

    changed: Callable[[], None] = staticmethod(_nothing)

    def add(self, connection: Any) -> None:
        """See `set.add`."""
        super().add(connection)
        self.changed()

    def discard(self, connection: Any) -> None:
        """See `set.discard`."""
        super().discard(connection)
        self.changed()


class Acceptor:
    """Accepts connections, in the place of an `asyncio.Server` of uvicorn's.

    Args:
        listening: Non-blocking.
        shares: What each worker has.
        connections: What this one has.
        connect: Makes an accepted socket one of them, and gives its protocol.
    """

    def __init__(
        self,
        listening: socket.socket,
        shares: Shares | Alone,
        connections: Connections,
        connect: Callable[[socket.socket], Awaitable[Any]],
    ) -> None:
        self._listening, self._shares, self._connections, self._connect = listening, shares, connections, connect
        self._loop = asyncio.get_running_loop()
        # Until it ends, nobody is accepted.
        self._pause: asyncio.TimerHandle | None = None
        self._looks = iter(_LOOKS_S)
        self._insists = 1
        self._connecting: set[asyncio.Task[None]] = set()
        self._closed = False
        # How far this worker was ahead at the last look, and when the next one is.
        self._ahead, self._level_s = 0.0, _LEVEL_S
        self._levelling = self._loop.call_later(_LEVEL_S, self._level)
        connections.changed = self._count
        self._count()
        self._loop.add_reader(listening, self._on_readable)

    def _count(self) -> None:
        if not self._closed:
            self._shares.set(len(self._connections) + len(self._connecting))

    def _level(self) -> None:
        """Let clients come again where other workers have far fewer; half of those that are too many at a time."""
        surplus = self._shares.surplus()
        leaving = sum(connection.leaves for connection in self._connections)
        if surplus <= max(_FEW, _PART * len(self._connections)):
            surplus = 0.0
            for connection in self._connections:
                connection.leaves = False
        elif self._ahead:
            # Not at the first look: a worker that has just begun is being found by new clients anyway.
            staying = [connection for connection in self._connections if not connection.leaves]
            # It is an answer that closes one: an idle one may stay for long, and counts as leaving all the while.
            staying.sort(key=lambda connection: not connection.busy)
            for connection in staying[: max(0, ceil(surplus / 2) - leaving)]:
                connection.leaves = True
        # Where all that were asked left and came back, the others are stuck.
        stuck = 0 < self._ahead <= surplus and not leaving
        self._level_s = min(2 * self._level_s, _LEVEL_SELDOM_S) if stuck else _LEVEL_S
        self._ahead = surplus
        self._levelling = self._loop.call_later(self._level_s, self._level)

    def _on_readable(self) -> None:
        for _ in range(_AT_ONCE):
            if self._shares.ahead():
                self._loop.remove_reader(self._listening)
                self._look_later()
                return
            if not self._accept():
                return

    def _look_later(self) -> None:
        self._looks = iter(_LOOKS_S)
        self._pause = self._loop.call_later(next(self._looks), self._look)

    def _look(self) -> None:
        """See whether another worker has taken what was left to it; at last, take it all the same."""
        self._pause = None
        if not self._shares.ahead():
            self._go_on()
        elif (seconds := next(self._looks, None)) is not None:
            self._pause = self._loop.call_later(seconds, self._look)
        else:
            self._insist()

    def _insist(self) -> None:
        # Few at first: the others may only be slow. Twice as many each time that they have taken none meanwhile.
        if all(self._accept() for _ in range(self._insists)):
            self._insists = min(2 * self._insists, _AT_ONCE)
            self._look_later()
        elif self._pause is None:
            self._go_on()

    def _accept(self) -> bool:
        """Take one connection; whether there was one."""
        try:
            connection, _ = self._listening.accept()
        except (BlockingIOError, InterruptedError):
            return False  # There are no more, or another worker was faster.
        except OSError as error:
            if error.errno in _OF_ONE_CLIENT:
                return True
            logger.exception("no connection can be accepted; next try in %g s", _RETRY_S)
            self._loop.remove_reader(self._listening)
            self._pause = self._loop.call_later(_RETRY_S, self._go_on)
            return False
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        task = self._loop.create_task(self._serve(connection), name="connect")
        self._connecting.add(task)
        self._count()
        return True

    def _go_on(self) -> None:
        self._pause, self._insists = None, 1
        self._loop.add_reader(self._listening, self._on_readable)

    async def _serve(self, connection: socket.socket) -> None:
        try:
            protocol = await self._connect(connection)
            if self._closed:
                # The server, which stops, did not know of it when it told the others.
                protocol.shutdown()
        except Exception as error:
            # Such as a TLS handshake that fails.
            logger.debug("a connection came to nothing: %s", error)
            connection.close()
        finally:
            self._connecting.discard(cast("asyncio.Task[None]", asyncio.current_task()))
            self._count()

    @property
    def sockets(self) -> tuple[socket.socket, ...]:
        """As of an `asyncio.Server`."""
        return () if self._closed else (self._listening,)

    def close(self) -> None:
        """Accept nothing more."""
        if not self._closed:
            self._closed = True
            self._loop.remove_reader(self._listening)
            self._levelling.cancel()
            if self._pause is not None:
                self._pause.cancel()
            self._listening.close()
            self._shares.close()

    async def wait_closed(self) -> None:
        """Nothing is left to wait for."""


def spread_connections(server: Server, path: Path, workers: int) -> asyncio.Task[None]:
    """Take the listening socket of ``server`` over once it has started; call it before.

    Args:
        server: uvicorn's, of this worker.
        path: File that the workers of this server share; one worker alone needs none.
        workers: How many there are.
    """
    connections = server.server_state.connections = Connections()
    return asyncio.get_running_loop().create_task(_take_over(server, connections, path, workers), name="spread")


async def _take_over(server: Server, connections: Connections, path: Path, workers: int) -> None:
    while not server.started:  # noqa: ASYNC110 - uvicorn has no event for it
        await asyncio.sleep(0.005)
    config, loop = server.config, asyncio.get_running_loop()

    def make_protocol() -> asyncio.Protocol:
        return config.http_protocol_class(  # type: ignore[call-arg]
            config=config, server_state=server.server_state, app_state=server.lifespan.state
        )

    async def connect(connection: socket.socket) -> asyncio.Protocol:
        _, protocol = await loop.connect_accepted_socket(make_protocol, connection, ssl=config.ssl)
        return protocol

    (given,) = server.servers
    try:
        shares = Shares(path, workers) if workers > 1 else Alone()
    except (OSError, RuntimeError) as error:
        logger.warning("connections are not spread over the workers: %s", error)
        return
    listening = socket.socket(fileno=os.dup(given.sockets[0].fileno()))
    listening.setblocking(False)
    given.close()
    server.servers = [cast("asyncio.base_events.Server", Acceptor(listening, shares, connections, connect))]
