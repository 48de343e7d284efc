"""How connections are spread over the workers of a real server."""

import contextlib
import http.client
import socket

import httpx
import psutil

from tests.e2e.server import Server, wait_for


def check_even_shares(server: Server) -> None:
    """Of 32 connections that are kept open each of two workers gets 14 to 18, in most of five tries."""
    wait_for(lambda: min(shares_of(server)), "a connection of each worker")
    least = [min(shares_of(server)) for _ in range(5)]
    assert sorted(least)[2] >= 14, least


def shares_of(server: Server) -> list[int]:
    """How many of 32 connections each of two workers gets; 0 for one that is not there."""
    address = httpx.URL(server.url)
    with contextlib.ExitStack() as kept:
        clients = [kept.enter_context(socket.create_connection((address.host, address.port or 0))) for _ in range(32)]
        for client in clients:
            client.sendall(b"GET /livez HTTP/1.1\r\nHost: test\r\n\r\n")
        assert all(client.recv(4096).startswith(b"HTTP/1.1 200") for client in clients)
        return connections_of(server)


def connections_of(server: Server) -> list[int]:
    """How many connections each of two workers has now; 0 for one that is not there."""
    port = httpx.URL(server.url).port
    found = [
        sum(one.status == psutil.CONN_ESTABLISHED and one.laddr.port == port for one in connections)
        for connections in (psutil.Process(pid).net_connections() for pid in server.workers())
    ]
    return [*found, 0, 0][:2]


class KeptAlive:
    """Clients that keep their connection for as long as they may, and come again at once where it ends."""

    def __init__(self, server: Server, count: int) -> None:
        address = httpx.URL(server.url)
        self._clients = [http.client.HTTPConnection(address.host, address.port, timeout=30) for _ in range(count)]

    def ask(self) -> None:
        """One request of each."""
        for client in self._clients:
            for _ in range(3):
                try:
                    client.request("GET", "/livez")
                    assert client.getresponse().read()
                    break
                except (OSError, http.client.HTTPException):
                    client.close()

    def are_spread(self, server: Server) -> bool:
        """Whether, after one more request of each, each of two workers has a quarter of them at least."""
        self.ask()
        return min(connections_of(server)) >= len(self._clients) / 4

    def close(self) -> None:
        """End the connections."""
        for client in self._clients:
            client.close()
