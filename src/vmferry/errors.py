"""The errors of vmferry: one tree, ours alone.

A foreign exception (``OSError``, obstore's, lxml's …) is changed into one of these beside the call that may raise it;
above that line nobody sees anything else. Every sentence says what, where, how much and what to do, in one line.
Two more tables change ours: into a task's status message (``tasks``) and into an API code (``ec2/errors.py``).
"""

from __future__ import annotations

import re

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_MAX_QUOTE = 200


def quote(text: object) -> str:
    """``text`` as it may stand in a message: control and bidirectional characters escaped, at most 200 characters.

    Names come out of strangers' files; a terminal or a log must not obey them.
    """
    escaped = escape(str(text))
    return escaped if len(escaped) <= _MAX_QUOTE else escaped[: _MAX_QUOTE - 1] + "…"


def escape(text: str) -> str:
    """``text`` with control and bidirectional characters, and halves of surrogate pairs, as ``\\u001b``, whole."""
    return _CONTROL.sub(lambda match: f"\\u{ord(match.group()):04x}", text)


class VmferryError(Exception):
    """Root of the tree. ``str(error)`` is the sentence; facts that code needs are keyword attributes.

    ``client_fault``: what was handed in is wrong; the same call again fails again.
    ``retryable``: the same call again may succeed, with nothing changed.
    """

    client_fault: bool = False
    retryable: bool = False

    def __init__(self, message: str, **facts: object) -> None:
        super().__init__(message)
        self.facts = facts


class FormatError(VmferryError):
    """The bytes are not what the specification says."""

    client_fault = True


class UnknownFormatError(FormatError):
    """No format we know, or not the one that was declared."""


class CorruptDiskError(FormatError):
    """A disk image or appliance is damaged or cut short."""


class UnsupportedFeatureError(FormatError):
    """Well-formed, but asks for something that vmferry does not read."""


class UnsafeDiskError(VmferryError):
    """Refers outside itself, or claims more than the limits allow."""

    client_fault = True


class LimitExceededError(VmferryError):
    """More than the server's quotas allow; a wider one can be configured."""

    client_fault = True


class GuestError(VmferryError):
    """No bootable system, an unknown one, or one that is not supported."""

    client_fault = True


class UnpreparableError(GuestError):
    """No program prepares the guest as it is: a driver or a kernel is not in it, or nothing may be written to it."""


class StoreError(VmferryError):
    """A store failed us, or cannot hold what is asked of it."""


class BlobNotFoundError(StoreError):
    """No such bucket or key."""

    client_fault = True


class AccessDeniedError(StoreError):
    """The store knows the credentials and refuses."""

    client_fault = True


class BlobChangedError(StoreError):
    """The object is no longer the one that was opened (its ETag or version differs)."""

    client_fault = True


class StoreUnavailableError(StoreError):
    """The store cannot be reached, or answers that it is not well just now."""

    retryable = True


class UploadUnfinishedError(StoreError):
    """Parts of an upload are not there yet: the client may still be sending them."""

    retryable = True


class OutOfSpaceError(StoreError):
    """The file system is full. Retryable: somebody can make room while the task waits."""

    retryable = True


class DifferentError(VmferryError):
    """What should hold the same does not: two disks, or a disk and its digest."""

    client_fault = True


class NotFoundError(VmferryError):
    """The catalog holds nothing under that id."""

    client_fault = True


class ConflictError(VmferryError):
    """The catalog already holds something that forbids this: a name in use, a snapshot in use, a finished task."""

    client_fault = True


class ComputeError(VmferryError):
    """A place where machines run failed us."""


class TaskCancelledError(VmferryError):
    """The task was cancelled by its user."""

    client_fault = True


class ConfigError(VmferryError):
    """Configuration, environment or installation is wrong."""

    client_fault = True
