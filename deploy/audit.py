"""What a public database of vulnerabilities knows of the locked packages: ``make audit``.

Nothing is installed: pip-audit looks each package of a lock up, by its name and version. A package that the database
does not find was not audited, and that is said; where it finds none at all it cannot be reached from here.
"""

import json
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

REQUIREMENTS = Path(__file__).resolve().parent.parent / "requirements"
ACCEPTED = REQUIREMENTS / "accepted-findings.toml"
LOCKS = ("serve", "container", "train", "gpu", "test")
# A lock of one package: whether there is anybody to ask.
_PROBE = "build"
_PATIENCE_S = 300


@dataclass(frozen=True)
class Finding:
    """One known vulnerability of one locked package.

    Attributes:
        package: Name and version.
        id: In the database; `aliases` in others.
        fixed: Versions without it.
    """

    package: str
    id: str
    aliases: tuple[str, ...]
    fixed: tuple[str, ...]

    @property
    def ids(self) -> set[str]:
        """Every name that it has."""
        return {self.id, *self.aliases}


@dataclass(frozen=True)
class Report:
    """What came of the packages of one lock: how many were looked up, which were not, and what is known."""

    audited: int
    skipped: tuple[str, ...]
    findings: tuple[Finding, ...]


def read_report(text: str) -> Report:
    """The report in pip-audit's JSON."""
    skipped, findings, audited = [], [], 0
    for package in json.loads(text)["dependencies"]:
        if "skip_reason" in package:
            skipped.append(package["name"])
            continue
        audited += 1
        findings += [
            Finding(
                f"{package['name']} {package['version']}",
                known["id"],
                tuple(known.get("aliases", ())),
                tuple(known.get("fix_versions", ())),
            )
            for known in package["vulns"]
        ]
    return Report(audited, tuple(skipped), tuple(findings))


def read_accepted(text: str) -> dict[str, str]:
    """Id -> why it is accepted.

    Raises:
        ValueError: One without a reason.
    """
    accepted: Mapping[str, Any] = tomllib.loads(text)
    for name, reason in accepted.items():
        if not isinstance(reason, str) or not reason.strip():
            raise ValueError(f"{ACCEPTED.name}: {name} must have a reason, as text. Received: {reason!r}.")
    return dict(accepted)


def judge(
    reports: Mapping[str, Report], accepted: Mapping[str, str], silent: Mapping[str, str]
) -> tuple[list[str], bool]:
    """What to say of the locks, and whether all is well: whatever is known is accepted, for a reason.

    Args:
        reports: By lock.
        accepted: Id -> why it is accepted.
        silent: Lock -> why nothing is known of it.
    """
    lines, well, met = [], True, set()
    for lock, report in reports.items():
        missed = f", {len(report.skipped)} not found there: {', '.join(report.skipped)}" if report.skipped else ""
        lines.append(f"{lock}: {report.audited} packages audited{missed}")
        for finding in sorted(set(report.findings), key=lambda found: (found.package, found.id)):
            reason = next((accepted[name] for name in sorted(finding.ids) if name in accepted), None)
            met |= finding.ids & accepted.keys()
            well &= reason is not None
            fixed = f"fixed in {', '.join(finding.fixed)}" if finding.fixed else "no fix yet"
            lines.append(f"  {finding.package}: {finding.id}, {fixed}" + (f"; accepted: {reason}" if reason else ""))
    lines += [f"{lock}: NOT AUDITED ({why})" for lock, why in silent.items()]
    if not silent:
        vain = accepted.keys() - met
        lines += [f"{name} is in {ACCEPTED.name} and found nowhere any more: take it out" for name in vain]
    if not well:
        lines.append(f"Lock a fixed version (make lock), or say in requirements/{ACCEPTED.name} why not.")
    return lines, well


def audit(lock: str) -> Report:
    """Ask about the packages of ``requirements/{lock}.txt``.

    Raises:
        FileNotFoundError: There is no pip-audit.
        OSError: There is no answer.
    """
    command = [
        *(str(Path(sys.executable).with_name("pip-audit")), "--require-hashes", "--disable-pip", "--format", "json"),
        *("--progress-spinner", "off", "--timeout", "10", "--requirement", str(REQUIREMENTS / f"{lock}.txt")),
    ]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE_S, check=False)  # noqa: S603
        return read_report(done.stdout)
    except subprocess.TimeoutExpired:
        raise OSError(f"no answer within {_PATIENCE_S} s") from None
    except ValueError:
        lines = done.stderr.strip().splitlines() or ["nothing said"]
        raise OSError(lines[-1][:200]) from None


def main(locks: Iterable[str]) -> int:
    """Exit status 1 where something is known that is not accepted, or without pip-audit; else 0, asked or not."""
    reports, silent = dict[str, Report](), dict[str, str]()
    trouble = "it knows none of the most common packages"
    try:
        asked = tuple(locks) if audit(_PROBE).audited else ()
    except FileNotFoundError:
        print("audit: there is no pip-audit beside this Python: install requirements/test.txt")
        return 1
    except OSError as error:
        asked, trouble = (), str(error)
    for lock in asked:
        try:
            reports[lock] = audit(lock)
        except OSError as error:
            silent[lock] = trouble = str(error)
    if not reports:
        print(f"audit: SKIPPED, nothing was audited: the database of vulnerabilities cannot be asked ({trouble})")
        return 0
    lines, well = judge(reports, read_accepted(ACCEPTED.read_text(encoding="utf-8")), silent)
    print("\n".join(lines))
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] or LOCKS))
