"""Asks the other workers of this server: a small database in the folder that they share.

Feedback reaches any worker, but only the one that answered remembers the answer. A question is a row that any other
worker may take and answer; who looks and finds no news has compared one time stamp of the file.
"""

import asyncio
import contextlib
import json
import logging
import os
import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from service.errors import NotReadyError

logger = logging.getLogger(__name__)

_LOOK_S = 0.05
_PATIENCE_S = 2.0
# Two writes in so short a time may have the same time stamp: that of the kernel's last tick.
_TICK_S = 0.1
# Questions that may wait at once. Each looks for its reply again and again; with twice as many the thread falls behind.
_MOST_QUESTIONS = 64
_TABLE = """
CREATE TABLE IF NOT EXISTS questions (
    number INTEGER PRIMARY KEY AUTOINCREMENT, asker TEXT, key TEXT, body TEXT, taker TEXT, reply TEXT
)
"""

Reply = dict[str, Any]


class Mailbox:
    """One worker's way to the others.

    Args:
        folder: That they share, emptied when the server starts.
        knows: Whether this worker can answer a question with this key; called on the event loop.
        answer: Its reply to a question's body; called on the event loop once.
    """

    def __init__(self, folder: Path, knows: Callable[[str], bool], answer: Callable[[Reply], Reply]) -> None:
        self._name = os.urandom(8).hex()
        self._path = folder / "questions.sqlite"
        self._knows, self._answer = knows, answer
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="mailbox")
        self._task: asyncio.Task[None] | None = None
        self._stamp = 0
        self._seen = 0
        self._asking = 0

    def start(self) -> None:
        """Begin to look for questions; returns at once."""
        self._task = asyncio.get_running_loop().create_task(self._run(), name="mailbox")

    async def close(self) -> None:
        """Stop."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        self._thread.shutdown(wait=False)

    async def ask(self, key: str, body: Reply) -> Reply | None:
        """What another worker replies, or None where none can.

        Raises:
            NotReadyError: Too many questions wait for a reply, or the folder cannot be used, as on a full disk.
        """
        if self._asking >= _MOST_QUESTIONS:
            raise NotReadyError("Too much feedback waits for other workers. Send less at once, or try again later.")
        self._asking += 1
        try:
            return await self._ask(key, body)
        except sqlite3.Error as error:
            logger.warning("another worker cannot be asked about an answer: %s", error)
            raise NotReadyError(
                "The worker that gave this answer cannot be asked now. Tell it again later; the log says why."
            ) from None
        finally:
            self._asking -= 1

    async def _ask(self, key: str, body: Reply) -> Reply | None:
        loop = asyncio.get_running_loop()
        number = await loop.run_in_executor(self._thread, self._put, key, json.dumps(body))
        deadline = loop.time() + _PATIENCE_S
        while loop.time() < deadline:
            await asyncio.sleep(_LOOK_S)
            reply = await loop.run_in_executor(self._thread, self._reply_to, number)
            if reply is not None:
                return reply
        await loop.run_in_executor(self._thread, self._withdraw, number)
        return None

    async def _run(self) -> None:
        loop, changed = asyncio.get_running_loop(), 0.0
        while True:
            await asyncio.sleep(_LOOK_S)
            stamp = self._stamp_now()
            if stamp != self._stamp:
                self._stamp, changed = stamp, loop.time()
            elif loop.time() > changed + _TICK_S:
                continue
            try:
                await self._look()
            except sqlite3.Error as error:
                # Such as a full disk. The next question may be luckier.
                logger.warning("another worker's question about an answer is not read: %s", error)

    async def _look(self) -> None:
        loop = asyncio.get_running_loop()
        for number, key, body in await loop.run_in_executor(self._thread, self._open_questions):
            self._seen = max(self._seen, number)
            if self._knows(key) and await loop.run_in_executor(self._thread, self._take, number):
                reply = json.dumps(self._answer(json.loads(body)))
                await loop.run_in_executor(self._thread, self._reply, number, reply)

    def _stamp_now(self) -> int:
        try:
            return self._path.stat().st_mtime_ns
        except OSError:
            return 0

    @contextlib.contextmanager
    def _database(self) -> Iterator[sqlite3.Connection]:
        # A new connection each time: uses are rare, and none may outlive a fork or the folder.
        database = sqlite3.connect(self._path, timeout=5)
        try:
            # Nothing here needs to survive a crash of the machine.
            database.execute("PRAGMA synchronous = OFF")
            with database:
                yield database
        finally:
            database.close()

    def _put(self, key: str, body: str) -> int:
        with self._database() as database:
            database.execute(_TABLE)
            row = (self._name, key, body)
            return int(
                database.execute("INSERT INTO questions (asker, key, body) VALUES (?, ?, ?)", row).lastrowid or 0
            )

    def _open_questions(self) -> list[tuple[int, str, str]]:
        with self._database() as database:
            found = database.execute(
                "SELECT number, key, body FROM questions WHERE taker IS NULL AND asker != ? AND number > ?",
                (self._name, self._seen),
            )
            return found.fetchall()

    def _take(self, number: int) -> bool:
        with self._database() as database:
            taken = database.execute(
                "UPDATE questions SET taker = ? WHERE number = ? AND taker IS NULL", (self._name, number)
            )
            return taken.rowcount == 1

    def _reply(self, number: int, reply: str) -> None:
        with self._database() as database:
            database.execute("UPDATE questions SET reply = ? WHERE number = ?", (reply, number))

    def _reply_to(self, number: int) -> Reply | None:
        """The reply, taken out of the mailbox."""
        with self._database() as database:
            (reply,) = database.execute("SELECT reply FROM questions WHERE number = ?", (number,)).fetchone()
            if reply is not None:
                database.execute("DELETE FROM questions WHERE number = ?", (number,))
            return None if reply is None else dict(json.loads(reply))

    def _withdraw(self, number: int) -> None:
        with self._database() as database:
            database.execute("DELETE FROM questions WHERE number = ?", (number,))
