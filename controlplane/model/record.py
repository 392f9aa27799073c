"""The versions of one resource that were read, and which of them is in force."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from controlplane.errors import ResourceError
from controlplane.model.conversion import View
from controlplane.model.snapshot import ResourceKey
from controlplane.model.status import Fault, Origin, ResourceStatus, State
from controlplane.resources.registry import Resource


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Version:
    """A valid reading of a resource, and what it is to the model."""

    resource: Resource
    view: View
    warnings: tuple[str, ...] = ()


@dataclass(slots=True, kw_only=True)
class Reading:
    """What one file last said of a resource: a version, or what is wrong with it."""

    origin: Origin
    generation: int
    version: Version | None = None
    errors: tuple[ResourceError, ...] = ()

    def says(self, errors: Sequence[ResourceError]) -> bool:
        """Whether it is the reading that these errors would make."""
        return self.version is None and list(map(str, errors)) == list(map(str, self.errors))


@dataclass(slots=True, eq=False, kw_only=True)
class Record:
    """``readings`` by file, the one that counts first: a resource that a second file has too is a mistake,
    and must not replace the first. They are empty from a deletion until the next build.

    ``in_force`` is the version that serves; ``last_good`` the last one that ever did, which serves again
    when the newer ones are faulty and what it refers to is there.
    """

    key: ResourceKey
    readings: dict[str, Reading] = field(default_factory=dict)
    in_force: Version | None = None
    last_good: Version | None = None
    fault: Fault | None = None
    reasons: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def reading(self) -> Reading:
        """The one that counts."""
        return next(iter(self.readings.values()))

    @property
    def newest(self) -> Version | None:
        return self.reading.version

    @property
    def candidates(self) -> list[Version]:
        """The versions that may be put in force, the best first."""
        versions = [self.newest, self.last_good]
        return list(dict.fromkeys(version for version in versions if version is not None))

    @property
    def creation(self) -> str:
        newest = self.newest
        return (newest.resource.metadata.creation_timestamp or "") if newest else ""

    def put_in_force(
        self, version: Version | None, fault: Fault | None = None, reasons: Sequence[str] = ()
    ) -> None:
        """Settles the record; ``fault`` and ``reasons`` say why the newest reading is not what serves."""
        self.in_force = version
        self.last_good = version or self.last_good
        self.fault = fault
        self.reasons = tuple(reasons)

    def statuses(self) -> tuple[ResourceStatus, ...]:
        """One for the reading that counts, and one for each that is passed over."""
        first, *others = self.readings.values()
        applied = self.in_force is not None and self.in_force is first.version
        status = ResourceStatus(
            key=self.key,
            state=State.APPLIED if applied else State.QUARANTINED,
            origin=first.origin,
            generation=first.generation,
            in_force=self.in_force is not None,
            fault=self.fault,
            reasons=self.reasons,
            warnings=(*self.in_force.warnings, *self.warnings) if self.in_force else (),
        )
        return status, *(self._passed_over(reading, first.origin) for reading in others)

    def _passed_over(self, reading: Reading, first: Origin) -> ResourceStatus:
        return ResourceStatus(
            key=self.key,
            state=State.QUARANTINED,
            origin=reading.origin,
            generation=reading.generation,
            in_force=False,
            fault=Fault.CONFLICTED,
            reasons=(f"{first} has {self.key} already",),
        )
