"""Give up every right but to talk over what is open: for a process that parses what a stranger wrote.

Linux: limits on resources, no new privileges, another user where root would run, and a filter of system calls. Source:
Linux, Documentation/userspace-api/seccomp_filter.rst; the numbers of calls are those of the kernel's tables.
"""

from __future__ import annotations

import ctypes
import os
import platform
import resource
import struct
import sys
from collections.abc import Iterable

_NOBODY = 65534
_PR_SET_DUMPABLE, _PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS = 4, 22, 38
_SECCOMP_MODE_FILTER = 2
_ALLOW, _KILL_PROCESS = 0x7FFF0000, 0x80000000
_PROT_EXEC = 4

# Instructions of the filter: load a word of the call's data, jump, return.
_LOAD, _JUMP_EQUAL, _JUMP_ABOVE, _JUMP_BITS, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_NUMBER, _ARCHITECTURE, _THIRD_ARGUMENT = 0, 4, 32

_X32 = 0x40000000
"""Where the second table of calls of x86-64 begins, which is not needed."""

_CALLS = {
    # architecture's audit number; calls allowed; calls allowed without the right to execute what is mapped
    "x86_64": (
        0xC000003E,
        {
            "read": 0, "write": 1, "close": 3, "fstat": 5, "lseek": 8, "munmap": 11, "brk": 12, "rt_sigaction": 13,
            "rt_sigprocmask": 14, "rt_sigreturn": 15, "sched_yield": 24, "mremap": 25, "madvise": 28, "getpid": 39,
            "sendto": 44, "recvfrom": 45, "exit": 60, "gettimeofday": 96, "getrusage": 98, "sigaltstack": 131,
            "gettid": 186, "time": 201, "futex": 202, "restart_syscall": 219, "clock_gettime": 228,
            "clock_getres": 229, "exit_group": 231, "getrandom": 318, "rseq": 334,
        },
        {"mmap": 9, "mprotect": 10},
    ),
    "aarch64": (
        0xC00000B7,
        {
            "close": 57, "lseek": 62, "read": 63, "write": 64, "fstat": 80, "exit": 93, "exit_group": 94, "futex": 98,
            "clock_gettime": 113, "clock_getres": 114, "sched_yield": 124, "sigaltstack": 132, "rt_sigaction": 134,
            "rt_sigprocmask": 135, "rt_sigreturn": 139, "restart_syscall": 128, "getrusage": 165, "gettimeofday": 169,
            "getpid": 172, "gettid": 178, "sendto": 206, "recvfrom": 207, "brk": 214, "munmap": 215, "mremap": 216,
            "madvise": 233, "getrandom": 278, "rseq": 293,
        },
        {"mmap": 222, "mprotect": 226},
    ),
}  # fmt: skip


def give_up_rights(*, addresses: int, memory: int, cpu_seconds: int) -> list[str]:
    """For good, for the process as it is: it has one thread, and has imported and opened all that it needs.

    ``addresses`` and ``memory`` are bytes. Answers what could not be given up, a sentence each. Any other system call
    than those for what is open, for memory and for time ends the process from here on.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    problems = []
    for limit, value in (
        (resource.RLIMIT_AS, addresses),
        (resource.RLIMIT_DATA, memory),
        (resource.RLIMIT_CPU, cpu_seconds),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NPROC, 0),
    ):
        _limit(limit, value)
    if os.geteuid() == 0 and not _become_nobody():
        problems.append("The reader of file systems runs as root: it may not become another user here.")
    _limit(resource.RLIMIT_NOFILE, 0)
    sys.excepthook = _last_words
    libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or not _filter_calls(libc):
        problems.append(
            "The reader of file systems runs without a filter of system calls: this kernel has none for it (seccomp)."
        )
    return problems


def _limit(limit: int, value: int) -> None:
    """Never above what is in force already. Processor time ends with a signal of its own, a second before the worst."""
    hard = resource.getrlimit(limit)[1]
    value = value if hard == resource.RLIM_INFINITY else min(value, hard - (limit == resource.RLIMIT_CPU))
    resource.setrlimit(limit, (value, value + 1 if limit == resource.RLIMIT_CPU else value))


def _last_words(kind: type[BaseException], error: BaseException, _: object) -> None:
    """What an exception that nobody catches leaves behind: the usual trace would open files of source."""
    os.write(2, f"{kind.__name__}: {error}".encode("utf-8", "replace")[:1000])
    os._exit(1)


def _become_nobody() -> bool:
    try:
        os.setgroups([])
        os.setresgid(_NOBODY, _NOBODY, _NOBODY)
        os.setresuid(_NOBODY, _NOBODY, _NOBODY)
    except OSError:
        return False
    return True


def _filter_calls(libc: ctypes.CDLL) -> bool:
    table = _CALLS.get(platform.machine())
    if table is None:
        return False
    program = _program(*table)

    class Program(ctypes.Structure):
        _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))

    pointer = ctypes.byref(Program(len(program) // 8, program))
    return bool(libc.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, pointer, 0, 0) == 0)


def _program(architecture: int, allowed: dict[str, int], mapping: dict[str, int]) -> bytes:
    """The filter: only what is ``allowed`` does not end the process; ``mapping`` does where it is for execution."""
    lines = [
        (_LOAD, 0, 0, _ARCHITECTURE),
        (_JUMP_EQUAL, 1, 0, architecture),
        (_RETURN, 0, 0, _KILL_PROCESS),
        (_LOAD, 0, 0, _NUMBER),
        (_JUMP_ABOVE, 0, 1, _X32),
        (_RETURN, 0, 0, _KILL_PROCESS),
        *_answers(allowed.values(), _ALLOW),
    ]
    tail = [
        (_RETURN, 0, 0, _KILL_PROCESS),
        (_LOAD, 0, 0, _THIRD_ARGUMENT),
        (_JUMP_BITS, 0, 1, _PROT_EXEC),
        (_RETURN, 0, 0, _KILL_PROCESS),
        (_RETURN, 0, 0, _ALLOW),
    ]
    numbers = list(mapping.values())
    lines += [(_JUMP_EQUAL, len(numbers) - index, 0, number) for index, number in enumerate(numbers)]
    return b"".join(struct.pack("<HBBI", *line) for line in lines + tail)


def _answers(numbers: Iterable[int], answer: int) -> Iterable[tuple[int, int, int, int]]:
    for number in numbers:
        yield (_JUMP_EQUAL, 0, 1, number)
        yield (_RETURN, 0, 0, answer)
