"""The versions of one resource that were read, and the one that is in force."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from controlplane.errors import ResourceError
from controlplane.model.last_good import LastGood
from controlplane.model.snapshot import ResourceKey
from controlplane.model.status import Fault, Origin, ResourceStatus, State
from controlplane.model.view import View
from controlplane.resources.resource import Resource


@dataclass(slots=True, eq=False, kw_only=True)
class Version:
    """A valid reading of a resource, and its view. ``generation`` and ``uid`` are those of its cluster; 0 and
    empty in a folder. Only the generation changes: it becomes the newest one with the same content."""

    resource: Resource
    view: View
    warnings: tuple[str, ...] = ()
    generation: int = 0
    uid: str = ""


@dataclass(slots=True, kw_only=True)
class Reading:
    """The last reading of a resource in one file: a version, or its errors. ``generation`` counts the
    readings by this process."""

    origin: Origin
    generation: int
    version: Version | None = None
    errors: tuple[ResourceError, ...] = ()

    @property
    def number(self) -> int:
        """The generation in the cluster, which is the same for all processes; without a cluster, the count of
        readings."""
        return self.generation if self.origin.generation is None else self.origin.generation

    def says(self, errors: Sequence[ResourceError]) -> bool:
        """Whether these errors would make the same reading."""
        return self.version is None and list(map(str, errors)) == list(map(str, self.errors))


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Kept:
    """The last good version of a resource that is stored outside of this process: the time since which it is
    in force, or the reason why it cannot be used."""

    version: Version | None = None
    since: str = ""
    unusable: str = ""


NOTHING_KEPT = Kept()


@dataclass(slots=True, eq=False, kw_only=True)
class Record:
    """``readings`` by file: a resource in a second file is a mistake, and must not replace the first. The
    reading of ``counting_file`` is used, or else the first one. ``readings`` is empty from a deletion until
    the next build.

    ``in_force`` is the version in force; ``last_good`` is the last version that was in force, and is used
    again if newer ones are faulty. ``kept`` is the last good version that another process has stored.
    ``late`` means that the resource was added when others were already in force. ``since`` is the time since
    which the newest reading has not been in force.
    """

    key: ResourceKey
    readings: dict[str, Reading] = field(default_factory=dict)
    in_force: Version | None = None
    last_good: Version | None = None
    kept: Kept = NOTHING_KEPT
    counting_file: str = ""
    late: bool = False
    since: str = ""
    fault: Fault | None = None
    reasons: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    unresolved: tuple[str, ...] = ()

    @property
    def reading(self) -> Reading:
        """The reading that is used."""
        counting = self.readings.get(self.counting_file) if self.counting_file else None
        return counting or next(iter(self.readings.values()))

    @property
    def newest(self) -> Version | None:
        return self.reading.version

    @property
    def candidates(self) -> Iterator[Version]:
        """The versions that may be put in force, the best first."""
        newest = self.newest
        if newest is not None:
            yield newest
        yield from (each for each in self._older if each is not newest)

    @property
    def _older(self) -> list[Version]:
        """The known good versions of the same object, the newest first. Of two versions with the same
        generation, the stored one comes first, because every replica has it."""
        uid = self.reading.origin.uid
        known = [each for each in (self.kept.version, self.last_good) if each is not None and each.uid == uid]
        return sorted(dict.fromkeys(known), key=lambda version: -version.generation)

    @property
    def creation(self) -> str:
        best = next(self.candidates, None)
        return (best.resource.metadata.creation_timestamp or "") if best else ""

    def put_in_force(
        self, version: Version | None, now: str, fault: Fault | None = None, reasons: Sequence[str] = ()
    ) -> None:
        """Settles the record. ``fault`` and ``reasons`` say why the newest reading is not in force. ``now``
        is RFC 3339."""
        self.in_force = version
        self.last_good = version or self.last_good
        self.fault = fault
        self.reasons = tuple(reasons)
        if fault is None:
            self.since = ""
        elif self.kept.version is not None and self.kept.version is (version or self.kept.version):
            self.since = self.kept.since
        else:
            self.since = self.since or now

    @property
    def to_keep(self) -> LastGood | None:
        """The state that another process needs to make the same decision: None while the newest reading is in
        force, and when no good version is known."""
        if self.fault is None:
            return None
        older = [each for each in self._older if each is not self.newest]
        if not older:
            return None
        version = older[0] if self.in_force is None else self.in_force
        return LastGood(
            resource=version.resource,
            since=self.since,
            uid=version.uid,
            generation=version.generation,
            faulty_generation=self.reading.origin.generation or 0,
            file=self.reading.origin.file,
        )

    def statuses(self) -> tuple[ResourceStatus, ...]:
        """One status for the reading that is used, and one for each other reading."""
        first = self.reading
        others = [reading for reading in self.readings.values() if reading is not first]
        applied = self.in_force is not None and self.in_force is first.version
        status = ResourceStatus(
            key=self.key,
            state=State.APPLIED if applied else State.QUARANTINED,
            origin=first.origin,
            generation=first.number,
            in_force=self.in_force is not None,
            fault=self.fault,
            reasons=self.reasons,
            warnings=(*self.in_force.warnings, *self.warnings) if self.in_force else (),
            unresolved=self.unresolved if self.in_force else (),
            serving_generation=0 if applied or self.in_force is None else self.in_force.generation,
            since="" if applied or self.in_force is None else self.since,
        )
        return status, *(self._passed_over(reading, first.origin) for reading in others)

    def _passed_over(self, reading: Reading, first: Origin) -> ResourceStatus:
        return ResourceStatus(
            key=self.key,
            state=State.QUARANTINED,
            origin=reading.origin,
            generation=reading.number,
            in_force=False,
            fault=Fault.CONFLICTED,
            reasons=(f"{self.key} is already defined in {first}",),
        )
