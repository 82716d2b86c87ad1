#!/usr/bin/env python3
"""What no converter can undercut by much: inflate every grain of a streamOptimized VMDK on all cores, and write it.

bench_limit.py IN.vmdk OUT.raw — checks nothing, knows one layout, and stands on its own: ``bench.py`` compares with it.
"""

from __future__ import annotations

import os
import struct
import sys
import threading
from itertools import pairwise

import deflate

GRAIN = 64 * 1024
_AT_END = (1 << 64) - 1


def main(source: str, target: str) -> None:
    fd, out = os.open(source, os.O_RDONLY), os.open(target, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
    size = os.fstat(fd).st_size
    header = os.pread(fd, 512, 0)
    capacity, directory = struct.unpack_from("<Q", header, 12)[0], struct.unpack_from("<Q", header, 56)[0]
    if directory == _AT_END:
        (directory,) = struct.unpack_from("<Q", os.pread(fd, 512, size - 1024), 56)
    os.ftruncate(out, capacity * 512)
    count = -(-capacity * 512 // (512 * GRAIN))
    tables = iter(struct.unpack(f"<{count}I", os.pread(fd, 4 * count, directory * 512)))
    lock = threading.Lock()

    def work() -> None:
        while True:
            with lock:
                table = next(tables, None)
            if table is None:
                return
            sectors = sorted(filter(None, struct.unpack("<512I", os.pread(fd, 2048, table * 512)))) if table else []
            for low, high in pairwise([*range(0, len(sectors), 16), len(sectors)]):
                base = sectors[low] * 512
                stored = memoryview(os.pread(fd, sectors[high - 1] * 512 + GRAIN + 4096 - base, base))
                for sector in sectors[low:high]:
                    at = sector * 512 - base
                    place, length = struct.unpack_from("<QI", stored, at)
                    grain = deflate.zlib_decompress(stored[at + 12 : at + 12 + length], GRAIN)
                    os.pwrite(out, grain, place * 512)

    threads = [threading.Thread(target=work) for _ in range(os.cpu_count() or 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main(*sys.argv[1:3])
