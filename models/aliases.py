"""The alias document: which version each name means, and what share of requests a candidate gets.

Values only: `models/store.py` reads and replaces the document on disk.
"""

import json
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from models.audit import Action, Change
from models.errors import ConflictError
from models.names import Name, Version

PRODUCTION = "production"
CANDIDATE = "candidate"
_PREVIOUS = 10
_DELETED = 50


class _Document(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Target(_Document):
    """What an alias points to: a version and the digest of its manifest."""

    version: str
    digest: str


class Canary(_Document):
    """A share of requests that the candidate answers, and when it loses them.

    Attributes:
        percent: Share of the requests that pin no version.
        requests: The candidate's requests in one worker before its figures are judged, and again each so many.
        error_factor: It is rolled back when its error rate exceeds production's times this, and not by chance.
        p99_factor: The same for the 99th percentile of latency.
    """

    percent: float = Field(gt=0, le=50)
    requests: int = Field(default=500, ge=50, le=1_000_000)
    error_factor: float = Field(default=2.0, ge=1)
    p99_factor: float = Field(default=2.0, ge=1)


class Traffic(_Document):
    """What the candidate of a model gets of its requests.

    Attributes:
        canary: A share that it answers.
        shadow: Production's batches run on it too, off the request path.
    """

    canary: Canary | None = None
    shadow: bool = False

    def __bool__(self) -> bool:
        return self.canary is not None or self.shadow

    def __str__(self) -> str:
        parts = []
        if self.canary:
            judged = f"judged each {self.canary.requests} requests"
            factors = f"errors x{self.canary.error_factor:g}, p99 x{self.canary.p99_factor:g}"
            parts.append(f"canary {self.canary.percent:g} % ({judged}, {factors})")
        if self.shadow:
            parts.append("shadow")
        return ", ".join(parts)


class Aliases(_Document):
    """The alias document.

    Attributes:
        revision: Rises by one with every change.
        models: Model name -> alias -> target.
        traffic: Model name -> what its candidate gets; absent for nothing.
        previous: Model name -> production's earlier targets, newest last.
        deleted: Model name -> versions taken away on purpose, which seeding must not bring back; newest last.
        last: The change that made this revision. Were the process to die before it is in the log, it is here.
    """

    document_version: Literal[1] = 1
    revision: int = Field(default=0, ge=0)
    models: dict[Name, dict[Name, Target]] = Field(default_factory=dict)
    traffic: dict[Name, Traffic] = Field(default_factory=dict)
    previous: dict[Name, Annotated[tuple[Target, ...], Field(max_length=_PREVIOUS)]] = Field(default_factory=dict)
    deleted: dict[Name, Annotated[tuple[Version, ...], Field(max_length=_DELETED)]] = Field(default_factory=dict)
    last: Change | None = None

    def target(self, name: str, alias: str = PRODUCTION) -> Target | None:
        """What ``alias`` of ``name`` points to, if anything."""
        return self.models.get(name, {}).get(alias)

    def earlier(self, name: str) -> list[Target]:
        """What a rollback of ``name`` may go back to, best first."""
        now = self.target(name)
        return [
            target for target in reversed(self.previous.get(name, ())) if now is None or target.version != now.version
        ]

    def holds(self, name: str, version: str) -> list[str]:
        """What needs ``version`` to stay, in words; empty where it may be deleted."""
        found = [
            f"the alias {alias}" for alias, target in self.models.get(name, {}).items() if target.version == version
        ]
        if any(target.version == version for target in self.earlier(name)[:1]):
            found.append("rollback, which would go back to it")
        return found

    def require(self, name: str, alias: str, expect: str | None) -> None:
        """Go on only if ``alias`` points to the version ``expect``, or None is expected of it.

        Raises:
            ConflictError: It points to something else.
        """
        found = self.target(name, alias)
        if expect is not None and (found is None or found.version != expect):
            raise ConflictError(
                f"{alias} of {name[:80]} points to {found.version if found else 'nothing'}, not to {expect[:80]}. "
                "Look again before changing it: keras-serving models history."
            )

    def change(self, action: Action, name: str, alias: str, after: str, who: str, reason: str) -> Change:  # noqa: PLR0917
        """What the log says of moving ``alias`` from where it points to ``after``."""
        old = self.target(name, alias)
        before = old.version if old else ""
        return Change(action=action, model=name, alias=alias, before=before, after=after, who=who, reason=reason)

    def pointing(self, name: str, alias: str, target: Target | None) -> "Aliases":
        """The document in which ``alias`` points to ``target``, or to nothing.

        Production's old target becomes the newest of `previous`. A candidate that becomes production is one no more.
        Traffic is about one candidate beside one production version, and ends with either.
        """
        aliases = dict(self.models.get(name, {}))
        old = aliases.pop(alias, None)
        previous = self.previous.get(name, ())
        if target is not None:
            aliases[alias] = target
        if alias == PRODUCTION:
            if old is not None and (target is None or target.version != old.version):
                previous = (*previous, old)[-_PREVIOUS:]
            if target is not None and CANDIDATE in aliases and aliases[CANDIDATE].version == target.version:
                del aliases[CANDIDATE]
        ended = PRODUCTION not in aliases or aliases.get(CANDIDATE) != self.target(name, CANDIDATE)
        return self._with(name, models=aliases, previous=previous, traffic=None if ended else self.traffic.get(name))

    def rolled_back(self, name: str, target: Target) -> "Aliases":
        """The document in which production of ``name`` is ``target`` again, and `previous` what was before it."""
        previous = self.previous[name]
        newest = max(index for index, earlier in enumerate(previous) if earlier == target)
        return self.pointing(name, PRODUCTION, target)._with(name, previous=previous[:newest])

    def with_traffic(self, name: str, traffic: Traffic, instead_of: Traffic | None = None) -> "Aliases":
        """The document in which the candidate of ``name`` gets ``traffic``.

        Raises:
            ConflictError: There is no candidate beside a production version, or it gets something other than
                ``instead_of`` until now.
        """
        before = self.traffic.get(name, Traffic())
        if instead_of not in (None, before):
            raise ConflictError(
                f"{CANDIDATE} of {name[:80]} gets {before or 'no traffic'}, not {instead_of or 'no traffic'}. "
                "Look again before changing it: keras-serving models history."
            )
        if traffic and not (self.target(name, CANDIDATE) and self.target(name)):
            raise ConflictError(
                f"{name[:80]} needs a production version and a candidate for that. "
                f"Choose one: keras-serving models label {name[:80]} VERSION {CANDIDATE}."
            )
        return self._with(name, traffic=traffic)

    def without(self, name: str, version: str) -> "Aliases":
        """The document of a store that has ``version`` of ``name`` no more.

        Raises:
            ConflictError: An alias points to it, or a rollback would.
        """
        if held := self.holds(name, version):
            raise ConflictError(
                f"{name}:{version} cannot be deleted: it is needed by {', '.join(held)}. "
                "Promote or label another version first."
            )
        previous = tuple(target for target in self.previous.get(name, ()) if target.version != version)
        deleted = tuple(other for other in self.deleted.get(name, ()) if other != version)
        return self._with(name, previous=previous, deleted=(*deleted, version)[-_DELETED:])

    def revised(self, change: Change) -> tuple["Aliases", Change]:
        """The document as its next revision, which ``change`` makes, and the change with its number."""
        revision = self.revision + 1
        change = change.model_copy(update={"revision": revision})
        return self.model_copy(update={"revision": revision, "last": change}), change

    def to_json(self) -> bytes:
        """The bytes that are written."""
        return (json.dumps(self.model_dump(mode="json"), indent=2, sort_keys=True) + "\n").encode()

    def _with(self, name: str, **members: object) -> "Aliases":
        """A copy in which each member says of ``name`` what is given; what is empty is left out."""
        update = {}
        for member, value in members.items():
            rest = {other: said for other, said in getattr(self, member).items() if other != name}
            update[member] = {**rest, name: value} if value else rest
        return self.model_copy(update=update)
