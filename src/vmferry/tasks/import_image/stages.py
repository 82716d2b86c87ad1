"""The stages of an import as DescribeImportImageTasks shows them, in order, and the Progress of each.

The words are EC2's. Its percentages differ by year and by kind of image; the spans here keep their order.
"""

from __future__ import annotations

from enum import Enum


class Stage(Enum):
    """A stage: the word in StatusMessage, and the span of Progress from its begin to its end."""

    PENDING = ("pending", 1, 2)
    VALIDATING = ("validating", 3, 4)
    VALIDATED = ("validated", 5, 7)
    CONVERTING = ("converting", 19, 48)
    UPDATING = ("updating", 50, 58)
    UPDATED = ("updated", 60, 60)
    PREPARING_TO_BOOT = ("preparing to boot", 62, 64)
    BOOTING = ("booting", 65, 79)
    BOOTED = ("booted", 80, 83)
    PREPARING_AMI = ("preparing ami", 84, 98)

    def __init__(self, message: str, first: int, last: int) -> None:
        self.message = message
        self.first = first
        self.last = last

    def at(self, done: int, planned: int) -> int:
        """The Progress when ``done`` of ``planned`` bytes of this stage are done."""
        if planned <= 0:
            return self.last
        return self.first + (self.last - self.first) * min(done, planned) // planned
