"""Which devices are set aside: those on which one training after another fails."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from results.records.device_faults import DeviceFaultRecord, add_fault
from study.worker.device import Device

FAULTS_IN_A_ROW = 2
"""Trainings that a device fails under, with none that it serves between them, after which it is set aside."""
EXCEPTIONS_IN_A_ROW = 3
"""Trainings that raise an exception on a device, while others train and raise none, after which it is suspected."""


@dataclass
class DeviceHealth:
    """What this driver has seen of the devices; one that resumes a study gives each another try.

    `gpus` says how many GPUs each node has now, by its id. The last device is set aside only if different trainings
    failed on it: there is no other that could show whether it is the device or the training.
    """

    gpus: Callable[[], Mapping[str, int]]
    kept_in: Path | None = None
    """File that faults are added to."""
    set_aside: dict[tuple[str, str], Device] = field(default_factory=dict)
    _faults: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    _exceptions: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    _working: set[tuple[str, str]] = field(default_factory=set)

    def fault(self, device: Device, training: str, reason: str) -> bool:
        """Note that a device failed under a training; return whether it is set aside now."""
        faults = self._faults.setdefault(device.key, [])
        faults.append(training)
        enough = len(set(faults)) if self.left <= 1 else len(faults)
        if enough >= FAULTS_IN_A_ROW:
            self.set_aside[device.key] = device
        aside = device.key in self.set_aside
        if self.kept_in is not None:
            found = {"device": device.name, "model": device.model, "node": device.host}
            when = datetime.now(UTC).isoformat(timespec="seconds")
            record = DeviceFaultRecord(when=when, training=training, reason=reason, set_aside=aside, **found)
            add_fault(self.kept_in, record)
        return aside

    def suspected(self, device: Device, training: str) -> bool:
        """Note an exception that nothing tells from one of the code; return whether it is taken for a fault.

        It is where one training after another raises one on this device, and others train and raise none.
        """
        raised = self._exceptions.setdefault(device.key, [])
        raised.append(training)
        self._working.discard(device.key)
        alone = len(self._exceptions) == 1
        if len(set(raised)) < EXCEPTIONS_IN_A_ROW or not alone or not self._working - self.set_aside.keys():
            return False
        self._faults[device.key] = self._exceptions.pop(device.key)[:-1]
        return True

    def works(self, device: Device) -> None:
        """Note that a training goes on on a device."""
        self._working.add(device.key)

    def served(self, device: Device) -> None:
        """Note that a training came to an end on a device."""
        self._faults.pop(device.key, None)
        self._exceptions.pop(device.key, None)

    @property
    def left(self) -> int:
        """Devices that are not set aside."""
        there = self.gpus()
        return sum(there.values()) - sum(node in there for node, _ in self.set_aside)

    @property
    def reason_to_end(self) -> str | None:
        """Why nothing can go on: every device is set aside. None if one is left, or if none ever failed."""
        if not self.set_aside or self.left > 0:
            return None
        return "no device is left: " + ", ".join(map(str, self.set_aside.values())) + " failed time after time"
