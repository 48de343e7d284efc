"""Administration over HTTP: promote, rollback, load, unload, canary, shadow. Absent unless a token is set.

Each change is one of the store's, so that every worker, and every server on the same store, follows it. The answer
comes when all workers of this server do, or says why they do not.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from ipaddress import ip_address
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from models.errors import BundleError, EngineError
from models.store import CANDIDATE, PRODUCTION, Aliases, Canary, Traffic
from service.access import Secrets
from service.bodies import read_form
from service.replies import json_response
from service.runtime import Runtime
from service.served import try_out

logger = logging.getLogger(__name__)

ADMIN_ROUTE = "/admin/models/{model}/"
_WAIT_S = 10.0
# Between looks at what the other workers follow: each says so twice a second.
_LOOK_S = 0.05


class _Order(BaseModel):
    """What a body may say."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    reason: str = Field(default="", max_length=500, description="For the log of changes.")


class Promote(_Order):
    """``version`` becomes production's, if that is ``expect`` until then."""

    version: str = Field(max_length=80, description="A version in the store.")
    expect: str | None = Field(default=None, max_length=80, description="Production's version until then; else 409.")


class Rollback(_Order):
    """Production becomes what it was before, if it is ``expect`` until then."""

    expect: str | None = Field(default=None, max_length=80, description="Production's version until then; else 409.")


class Load(_Order):
    """``version`` is kept loaded under ``label``, for pinned requests, a canary or a shadow."""

    version: str = Field(max_length=80, description="A version in the store.")
    label: str = Field(default=CANDIDATE, max_length=63, description="`candidate` is what canary and shadow are about.")


class Unload(_Order):
    """``label`` points to nothing any more."""

    label: str = Field(default=CANDIDATE, max_length=63, description="Canary and shadow end with `candidate`.")


class StartCanary(_Order):
    """The candidate answers ``percent`` of the requests; 0 ends it."""

    percent: float = Field(ge=0, le=50, description="Share of the requests that pin no version.")
    requests: int = Field(
        default=500, ge=50, le=1_000_000, description="Its requests in one worker before each judgement."
    )
    error_factor: float = Field(default=2.0, ge=1, description="Taken back above production's error rate times this.")
    p99_factor: float = Field(default=2.0, ge=1, description="Taken back above production's p99 times this.")


class SetShadow(_Order):
    """Whether the candidate gets production's batches too."""

    on: bool = Field(default=True, description="False ends it.")


ORDERS: dict[str, type[_Order]] = {
    "promote": Promote,
    "rollback": Rollback,
    "load": Load,
    "unload": Unload,
    "canary": StartCanary,
    "shadow": SetShadow,
}
"""Action, the last part of the path -> what its body says."""


class Admin:
    """The actions, on behalf of one worker.

    Args:
        runtime: Its store is changed, and its loader follows.
    """

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._store = runtime.loader.store
        token = runtime.settings.admin_token
        self._token = Secrets([token] if token else [], "the administration's token, as Authorization: Bearer TOKEN")
        # A version that is tried out needs the memory of one more.
        self._trial = asyncio.Semaphore(1)

    def routes(self) -> list[Route]:
        """One route an action."""
        return [Route(ADMIN_ROUTE + action, self._endpoint(action), methods=["POST"]) for action in ORDERS]

    def _endpoint(self, action: str) -> Callable[[Request], Awaitable[Response]]:
        change: Callable[[str, Any, str], Awaitable[dict[str, Any]]] = getattr(self, f"_{action}")

        async def call(request: Request) -> Response:
            self._token.check(request.scope["headers"])
            order = await read_form(request, ORDERS[action])
            name = request.path_params["model"]
            who = f"admin@{_address(request)}"
            answer = await change(name, order, who)
            logger.info("%s: %s of %s at revision %d", who, action, name, answer["revision"])
            return json_response({"model": name, "action": action} | answer)

        return call

    async def _promote(self, name: str, order: Promote, who: str) -> dict[str, Any]:
        return await self._set_alias(name, PRODUCTION, order, order.expect, who)

    async def _load(self, name: str, order: Load, who: str) -> dict[str, Any]:
        return await self._set_alias(name, order.label, order, None, who)

    async def _set_alias(
        self, name: str, alias: str, order: Promote | Load, expect: str | None, who: str
    ) -> dict[str, Any]:
        version = order.version
        before = (await asyncio.to_thread(self._store.aliases)).target(name, alias)
        if before is not None and expect is None:
            # So that of two changes at once the later one is told.
            expect = before.version
        if version not in {served.manifest.version for served in self._runtime.loader.named(name).values()}:
            async with self._trial:
                try:
                    await asyncio.to_thread(try_out, self._store, name, version, self._runtime.settings)
                except EngineError as error:
                    raise BundleError(str(error)) from None
        document = await asyncio.to_thread(
            self._store.set_alias, name, version, alias, expect=expect, who=who, reason=order.reason
        )
        return await self._followed(name, document, alias, version)

    async def _rollback(self, name: str, order: Rollback, who: str) -> dict[str, Any]:
        document = await asyncio.to_thread(
            self._store.rollback, name, expect=order.expect, who=who, reason=order.reason
        )
        target = document.target(name)
        return await self._followed(name, document, PRODUCTION, target.version if target else "")

    async def _unload(self, name: str, order: Unload, who: str) -> dict[str, Any]:
        document = await asyncio.to_thread(self._store.remove_alias, name, order.label, who=who, reason=order.reason)
        return await self._followed(name, document, order.label, "")

    async def _canary(self, name: str, order: StartCanary, who: str) -> dict[str, Any]:
        figures = order.model_dump(exclude={"reason"})
        return await self._set_traffic(name, "canary", Canary(**figures) if order.percent else None, order, who)

    async def _shadow(self, name: str, order: SetShadow, who: str) -> dict[str, Any]:
        return await self._set_traffic(name, "shadow", order.on, order, who)

    async def _set_traffic(
        self, name: str, member: Literal["canary", "shadow"], value: Canary | bool | None, order: _Order, who: str
    ) -> dict[str, Any]:
        def change() -> Aliases:
            self._store.versions(name)
            before = self._store.aliases()
            candidate = before.target(name, CANDIDATE)
            old = before.traffic.get(name, Traffic())
            traffic = old.model_copy(update={member: value})
            expect = candidate.version if candidate else None
            return self._store.set_traffic(name, traffic, expect=expect, instead_of=old, who=who, reason=order.reason)

        document = await asyncio.to_thread(change)
        candidate = document.target(name, CANDIDATE)
        answer = await self._followed(name, document, CANDIDATE, candidate.version if candidate else "")
        return answer | {"traffic": document.traffic.get(name, Traffic()).model_dump(mode="json")}

    async def _followed(self, name: str, document: Aliases, alias: str, version: str) -> dict[str, Any]:
        """Wait until all workers follow ``document``; say whether ``alias`` now means ``version``."""
        loader = self._runtime.loader

        def meant() -> str:
            served = loader.named(name).get(alias)
            return served.manifest.version if served else ""

        def over() -> bool:
            followed = loader.document.revision >= document.revision
            return followed and (meant() == version or alias in loader.failures_of(name))

        loader.look()
        everywhere = False
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_WAIT_S):
                while not over():  # noqa: ASYNC110 - two parties, one of which is an administrator
                    await asyncio.sleep(0.005)
                # A request that pins the version may come to any worker.
                while not everywhere and meant() == version:
                    followed = await self._runtime.beside(loader.revision.in_all_workers, name, alias)
                    everywhere = followed[alias] >= document.revision
                    await asyncio.sleep(0 if everywhere else _LOOK_S)
        serving = everywhere and meant() == version
        answer = {"alias": alias, "version": version, "revision": document.revision, "serving": serving}
        if not serving:
            answer["reason"] = self._why_not(name, alias, here=meant() == version)
        return answer

    def _why_not(self, name: str, alias: str, *, here: bool) -> str:
        loader = self._runtime.loader
        failure = loader.failures_of(name).get(alias)
        if failure is not None:
            return failure.reason
        if here:
            return "another worker of this server does not serve it yet; if it stays so, the log says why"
        return loader.problems().get("aliases", "not loaded yet")


def _address(request: Request) -> str:
    """The client's; a proxy on this machine tells it in a header, which may hold any text."""
    try:
        return str(ip_address(request.client.host if request.client else ""))
    except ValueError:
        return "unknown"
