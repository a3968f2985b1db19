"""The faults of devices that a study met: device_faults.json, which is there only if it met any."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

from spinlock_dist.atomic_files import read_json, write_json


@dataclass(frozen=True, kw_only=True)
class DeviceFaultRecord:
    """One fault."""

    when: str
    """ISO 8601, to the second."""
    device: str
    """`GPU 3`, by Ray's number on its node."""
    model: str
    node: str
    training: str
    """`trial-0007`, `batch-0004`, or of the other phases e.g. `final-trial-7-2`."""
    reason: str
    set_aside: bool
    """Whether nothing was to run on the device any more."""


def read_faults(path: Path) -> list[DeviceFaultRecord]:
    """The faults in order; none if there is no file. Raises `ValueError` or `TypeError` for a damaged one."""
    return [DeviceFaultRecord(**each) for each in read_json(path)] if path.exists() else []


def add_fault(path: Path, fault: DeviceFaultRecord) -> None:
    """Add one at the end. A damaged file is begun anew."""
    try:
        earlier = read_faults(path)
    except (ValueError, TypeError):
        earlier = []
    write_json(path, [asdict(each) for each in [*earlier, fault]])
