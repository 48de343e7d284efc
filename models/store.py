"""The store: which versions exist, which one each name means, and every change of either.

Versions lie in BentoML's model store (``<home>/models/<name>/<version>``). Nothing is served because it exists: what an
alias points to is served, and ``aliases.json``, one document replaced atomically, is the commit point. It records each
version's manifest digest too, so that a bundle exchanged under the same version is noticed.
"""

from dataclasses import dataclass
from pathlib import Path

from models.aliases import CANDIDATE, PRODUCTION, Aliases, Canary, Target, Traffic
from models.archive import read_archive, write_archive
from models.audit import Action, Change
from models.bundle import Bundle
from models.errors import BundleError, ConflictError, OvertakenError, UnknownModelError
from models.journal import ALIASES, disk_errors
from models.names import is_name
from models.reading import StoreReader
from models.retry import retry_if_overtaken

__all__ = ["ALIASES", "CANDIDATE", "PRODUCTION", "Aliases", "Canary", "Change", "Seeded", "Store", "Target", "Traffic"]


@dataclass(frozen=True)
class Seeded:
    """What seeding did.

    Attributes:
        added: ``name:version`` of each bundle that was new to the store.
        waiting: Those of them that are not served because the name has another production version.
        failed: Bundle folder -> why it was left out.
    """

    added: tuple[str, ...]
    waiting: tuple[str, ...]
    failed: dict[str, str]


class Store(StoreReader):
    """The store under one home folder; safe to use from several processes.

    What changes something takes ``who`` does it and for which ``reason``, for the log. It may raise `BundleError` (the
    alias document is damaged; it stays as it is) and `StoreError` (the volume is full or read-only).
    """

    @retry_if_overtaken
    def add(self, source: Path, *, who: str = "", reason: str = "") -> Bundle:
        """Verify the bundle in ``source`` and copy it into the store. Adding it twice is no error.

        Raises:
            BundleError: Incomplete or altered.
            ConflictError: The store holds another bundle under the same name and version.
        """
        bundle = Bundle.open(source)
        bundle.verify()
        with self._journal.locked() as document:
            change = Change(action="add", model=bundle.manifest.name, who=who, reason=reason)
            return self._add(bundle, document, change)[0]

    def _add(self, bundle: Bundle, document: Aliases, change: Change) -> tuple[Bundle, bool]:
        """The bundle in the store, and whether it had to be copied there."""
        name, version = bundle.manifest.name, bundle.manifest.version
        if self._versions.exists(name, version):
            try:
                present = self._versions.afresh(name, version)
            except BundleError:
                # Damaged, so no alias can serve it.
                self._versions.take_away(name, version)
            else:
                if present.manifest.digest != bundle.manifest.digest:
                    raise ConflictError(
                        f"The store holds another bundle as {name}:{version}. Train it anew, or delete that one first."
                    )
                return present, False
        # Before the version is there: a line too many can be explained, a version that nobody added cannot.
        self._journal.note(change.model_copy(update={"after": version, "revision": document.revision}))
        self._versions.place(bundle)
        return self.open(name, version), True

    def set_alias(
        self,
        name: str,
        version: str,
        alias: str = PRODUCTION,
        *,
        expect: str | None = None,
        who: str = "",
        reason: str = "",
    ) -> Aliases:
        """Point ``alias`` of ``name`` to ``version``, after verifying every file of that version.

        Args:
            name: Model name.
            version: A version in the store.
            alias: Which alias to move.
            expect: Version that the alias is believed to point to; None accepts what is there at the call.
            who: For the log, as in every other method.
            reason: For the log, as in every other method.

        Raises:
            UnknownModelError: No such model or version.
            BundleError: The version is incomplete or altered; the alias stays.
            ConflictError: The alias points to something other than ``expect``, or was moved during the call.
        """
        if not is_name(alias):
            raise UnknownModelError(f"Alias {alias[:80]!r} is no name. Use lower case letters, digits, - and _.")
        seen = self.aliases().target(name, alias)
        bundle = self.afresh(name, version)
        return self._move(bundle, alias, seen, expect=expect, who=who, reason=reason)

    @retry_if_overtaken
    def _move(
        self, bundle: Bundle, alias: str, seen: Target | None, *, expect: str | None, who: str, reason: str
    ) -> Aliases:
        name, version = bundle.manifest.name, bundle.manifest.version
        with self._journal.locked() as document:
            # It may have been deleted since it was verified, and another one added.
            if self._versions.there(name, version).digest != bundle.manifest.digest:
                raise ConflictError(
                    f"{name}:{version} was exchanged by another change at the same time. "
                    "Look again before changing it: keras-serving models history."
                )
            document.require(name, alias, expect)
            if document.target(name, alias) != seen:
                raise ConflictError(
                    f"{alias} of {name} was moved by another change at the same time. "
                    "Look again before changing it: keras-serving models history."
                )
            return self._set_alias(document, bundle, alias, who, reason)

    def _set_alias(self, document: Aliases, bundle: Bundle, alias: str, who: str, reason: str) -> Aliases:
        name, version = bundle.manifest.name, bundle.manifest.version
        action: Action = "promote" if alias == PRODUCTION else "label"
        change = document.change(action, name, alias, version, who, reason)
        return self._journal.write(
            document.pointing(name, alias, Target(version=version, digest=bundle.manifest.digest)), change
        )

    @retry_if_overtaken
    def rollback(self, name: str, *, expect: str | None = None, who: str = "", reason: str = "") -> Aliases:
        """Make production of ``name`` what it was before, passing over versions that are not whole any more.

        Args:
            name: Model name.
            expect: Version that production is believed to be; None accepts any.
            who: For the log.
            reason: For the log.

        Raises:
            UnknownModelError: No such model.
            ConflictError: Nothing whole to go back to, or production is something other than ``expect``.
        """
        self.versions(name)
        with self._journal.locked() as document:
            document.require(name, PRODUCTION, expect)
            for target in document.earlier(name):
                if self._versions.is_whole(name, target.version, target.digest):
                    change = document.change("rollback", name, PRODUCTION, target.version, who, reason)
                    return self._journal.write(document.rolled_back(name, target), change)
        raise ConflictError(
            f"{name} has no earlier production version that is whole. Choose one: models promote {name} VERSION."
        )

    @retry_if_overtaken
    def remove_alias(self, name: str, alias: str, *, who: str = "", reason: str = "") -> Aliases:
        """Let ``alias`` of ``name`` point to nothing; a candidate's traffic ends with it.

        Raises:
            UnknownModelError: No such alias.
        """
        with self._journal.locked() as document:
            if document.target(name, alias) is None:
                known = ", ".join(sorted(document.models.get(name, {}))) or "none"
                raise UnknownModelError(f"{name[:80]} has no alias {alias[:80]!r}. Its aliases: {known}.")
            change = document.change("remove", name, alias, "", who, reason)
            return self._journal.write(document.pointing(name, alias, None), change)

    @retry_if_overtaken
    def set_traffic(
        self,
        name: str,
        traffic: Traffic,
        *,
        expect: str | None = None,
        instead_of: Traffic | None = None,
        who: str = "",
        reason: str = "",
    ) -> Aliases:
        """Say what the candidate of ``name`` gets, nothing ends canary and shadow; what it has already is no change.

        Raises:
            ConflictError: There is no candidate beside a production version; or it is not the version ``expect``, or
                gets something other than ``instead_of`` until now, where these are given.
        """
        with self._journal.locked() as document:
            document.require(name, CANDIDATE, expect)
            changed = document.with_traffic(name, traffic, instead_of)
            if (before := document.traffic.get(name, Traffic())) == traffic:
                return document
            change = document.change("traffic", name, CANDIDATE, str(traffic), who, reason)
            return self._journal.write(changed, change.model_copy(update={"before": str(before)}))

    @retry_if_overtaken
    def delete(self, name: str, version: str, *, who: str = "", reason: str = "") -> None:
        """Delete one version; a server that answers with it already is not hurt.

        Raises:
            UnknownModelError: No such model or version.
            ConflictError: An alias points to it, or a rollback would.
        """
        with self._journal.locked() as document:
            self._delete(document, name, version, who, reason)

    def _delete(self, document: Aliases, name: str, version: str, who: str, reason: str) -> Aliases:
        self._versions.require(name, version)
        change = Change(action="delete", model=name, before=version, who=who, reason=reason)
        changed = self._journal.write(document.without(name, version), change)
        self._versions.take_away(name, version)
        return changed

    @retry_if_overtaken
    def prune(self, name: str, keep: int, *, who: str = "") -> list[str]:
        """Delete the oldest versions beyond the newest ``keep``, but none that an alias or a rollback needs.

        Returns:
            The deleted versions.

        Raises:
            UnknownModelError: No such model.
        """
        with self._journal.locked() as before:
            document, versions = before, self.versions(name)
            old = [version for version in versions[: max(0, len(versions) - keep)] if not document.holds(name, version)]
            for version in old:
                document = self._delete(document, name, version, who, f"prune, keep {keep}")
            return old

    def export(self, name: str, version: str, file: Path) -> None:
        """Write one version to an archive; see `models.archive.write_archive`."""
        with disk_errors("the archive cannot be written"):
            write_archive(self.open(name, version), file)

    @retry_if_overtaken
    def import_file(self, file: Path, *, who: str = "", reason: str = "") -> Bundle:
        """Add the version in an archive. Adding it twice is no error.

        Raises:
            BundleError: No archive of one bundle, or an altered one.
            ConflictError: The store holds another bundle under the same name and version.
        """
        with self._journal.locked() as document:
            bundle = read_archive(file, self._journal.staging / "archive")
            change = Change(action="import", model=bundle.manifest.name, who=who, reason=reason or file.name)
            return self._add(bundle, document, change)[0]

    def begin(self, pretrained: Path) -> Seeded:
        """What a server does before it follows: `seed`."""
        return self.seed(pretrained)

    def seed(self, pretrained: Path) -> Seeded:
        """Add the bundles in ``pretrained`` (one folder each); serve names that never had a production version.

        Several processes may call it at once: one does the work, the others wait and find it done.

        Raises:
            OvertakenError: Others changed the store again and again meanwhile.
        """
        return self._seed(pretrained, [])

    @retry_if_overtaken
    def _seed(self, pretrained: Path, added: list[str]) -> Seeded:
        """Seed, once more perhaps: ``added`` is what was added before, too."""
        waiting: list[str] = []
        failed: dict[str, str] = {}
        with self._journal.locked() as before:
            document = before
            for source in sorted(p for p in pretrained.iterdir() if p.is_dir()) if pretrained.is_dir() else []:
                try:
                    bundle = Bundle.open(source)
                    name, version = bundle.manifest.name, bundle.manifest.version
                    if version in document.deleted.get(name, ()) or self._versions.is_rewritten(bundle):
                        continue
                    # Looks at every byte of what is there already: a copy that was killed half-way may have a manifest.
                    change = Change(action="add", model=name, who="shipped")
                    bundle, copied = self._add(bundle, document, change)
                    if copied:
                        added.append(f"{name}:{version}")
                    target = document.target(name)
                    if target is None and not document.previous.get(name):
                        document = self._set_alias(document, bundle, PRODUCTION, "shipped", "the first version")
                    elif f"{name}:{version}" in added and (target is None or target.version != version):
                        waiting.append(f"{name}:{version}")
                except OvertakenError:
                    raise
                except (BundleError, ConflictError) as error:
                    failed[source.name] = str(error)
        return Seeded(tuple(added), tuple(waiting), failed)
