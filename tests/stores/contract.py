"""What every Store must do, as tests. A new store gets all of them by saying how it is made:

    class TestMyStore(StoreContract):
        @pytest.fixture
        def store(self) -> Store: ...

A store that ``SupportsResume`` inherits from ``ResumeContract`` instead, which holds these and its own.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest

from vmferry.blob import Blob, BlobWriter, read_view
from vmferry.errors import BlobChangedError, BlobNotFoundError, CorruptDiskError, StoreError
from vmferry.stores import ResumableBlobWriter, Store, SupportsResume
from vmferry.units import KIB, MIB


def put(store: Store, bucket: str, key: str, data: bytes) -> None:
    """``data`` as the blob at ``key``."""
    writer = store.create(bucket, key)
    writer.write_at(0, data)
    writer.finish()


def read_all(blob: Blob) -> bytes:
    """All bytes of ``blob``, which is closed then."""
    try:
        return blob.read_at(0, blob.size)
    finally:
        blob.close()


def get(store: Store, bucket: str, key: str) -> bytes:
    """The bytes at ``key``."""
    return read_all(store.open(bucket, key))


def letters(count: int, length: int = 64 * KIB) -> bytes:
    """``count`` runs of ``length`` bytes, each of a letter of its own: a run in the wrong place shows itself."""
    return b"".join(bytes([65 + index % 26]) * length for index in range(count))


class StoreContract:
    """Every Store. ``bucket`` exists, and what is in it does not matter as long as nothing starts with a prefix used
    here."""

    @pytest.fixture
    def store(self) -> Store:
        """The store on trial, in which ``bucket`` exists."""
        raise NotImplementedError

    @pytest.fixture
    def bucket(self) -> str:
        return "bucket"

    # --- what is written is read ---------------------------------------------------------------------------------

    def test_what_is_created_is_opened(self, store: Store, bucket: str) -> None:
        data = letters(3)
        put(store, bucket, "disks/one.vmdk", data)
        blob = store.open(bucket, "disks/one.vmdk")
        assert blob.size == len(data)
        assert blob.read_at(64 * KIB - 1, 2) == b"AB"
        assert blob.read_at(len(data), 0) == b""
        assert bytes(read_view(blob, 64 * KIB - 1, 2)) == b"AB"
        assert not read_view(blob, len(data), 0)
        assert bucket in blob.name
        assert "disks/one.vmdk" in blob.name
        assert read_all(blob) == data

    def test_an_empty_blob_is_a_blob(self, store: Store, bucket: str) -> None:
        store.create(bucket, "empty").finish()
        assert get(store, bucket, "empty") == b""

    def test_names_with_spaces_and_letters_of_the_world_are_names(self, store: Store, bucket: str) -> None:
        key = "Fleet Ü/db 01 (copy)+#%20?.ova"
        put(store, bucket, key, b"x")
        assert get(store, bucket, key) == b"x"
        assert key in list(store.keys(bucket, "Fleet"))

    def test_writes_may_come_in_any_order_and_leave_gaps(self, store: Store, bucket: str) -> None:
        writer = store.create(bucket, "gaps")
        writer.write_at(200_000, b"end")
        writer.write_at(0, bytearray(b"start"))
        writer.write_at(100_000, memoryview(b"--middle--")[2:-2])
        writer.finish()
        expected = bytearray(200_003)
        expected[:5], expected[100_000:100_006], expected[200_000:] = b"start", b"middle", b"end"
        assert get(store, bucket, "gaps") == expected

    def test_threads_write_one_blob(self, store: Store, bucket: str) -> None:
        data = letters(40, 128 * KIB)
        writer = store.create(bucket, "threads")
        with ThreadPoolExecutor(4) as pool:
            list(
                pool.map(
                    lambda start: writer.write_at(start, data[start : start + 128 * KIB]),
                    range(0, len(data), 128 * KIB),
                )
            )
        writer.finish()
        assert get(store, bucket, "threads") == data

    def test_threads_read_one_blob(self, store: Store, bucket: str) -> None:
        data = letters(40)
        put(store, bucket, "readers", data)
        blob = store.open(bucket, "readers")
        with ThreadPoolExecutor(8) as pool:
            pieces = list(pool.map(lambda start: blob.read_at(start, 64 * KIB), range(0, len(data), 64 * KIB)))
        blob.close()
        assert b"".join(pieces) == data

    def test_set_size_makes_a_hole_behind_the_data(self, store: Store, bucket: str) -> None:
        writer = store.create(bucket, "longer")
        writer.write_at(0, b"data")
        writer.set_size(MIB)
        writer.finish()
        assert get(store, bucket, "longer") == b"data".ljust(MIB, b"\0")

    def test_set_size_alone_makes_a_blob_of_zeros(self, store: Store, bucket: str) -> None:
        writer = store.create(bucket, "hole")
        writer.set_size(70_000)
        writer.finish()
        assert get(store, bucket, "hole") == bytes(70_000)

    def test_a_read_past_the_end_is_an_error(self, store: Store, bucket: str) -> None:
        put(store, bucket, "short", b"12345")
        blob = store.open(bucket, "short")
        for offset, length in ((0, 6), (5, 1), (1 << 62, 1)):
            with pytest.raises(CorruptDiskError):
                blob.read_at(offset, length)
            with pytest.raises(CorruptDiskError):
                read_view(blob, offset, length)
        blob.close()

    def test_close_may_be_called_twice(self, store: Store, bucket: str) -> None:
        put(store, bucket, "twice", b"x")
        blob = store.open(bucket, "twice")
        blob.close()
        blob.close()

    # --- whole, or not at all ------------------------------------------------------------------------------------

    def test_nothing_appears_before_finish(self, store: Store, bucket: str) -> None:
        writer = store.create(bucket, "unfinished/one")
        writer.write_at(0, letters(2))
        assert list(store.keys(bucket, "unfinished/")) == []
        with pytest.raises(BlobNotFoundError):
            store.open(bucket, "unfinished/one")
        writer.abort()

    def test_abort_leaves_nothing(self, store: Store, bucket: str) -> None:
        writer = store.create(bucket, "aborted/one")
        writer.write_at(0, letters(2))
        writer.abort()
        writer.abort()
        assert list(store.keys(bucket, "aborted/")) == []
        with pytest.raises(BlobNotFoundError):
            store.open(bucket, "aborted/one")

    def test_abort_after_finish_is_harmless(self, store: Store, bucket: str) -> None:
        writer = store.create(bucket, "kept")
        writer.write_at(0, b"kept")
        writer.finish()
        writer.abort()
        assert get(store, bucket, "kept") == b"kept"

    def test_an_old_blob_stays_until_finish(self, store: Store, bucket: str) -> None:
        put(store, bucket, "replaced", b"old")
        writer = store.create(bucket, "replaced")
        writer.write_at(0, b"new one")
        assert get(store, bucket, "replaced") == b"old"
        writer.finish()
        assert get(store, bucket, "replaced") == b"new one"

    def test_abort_keeps_the_old_blob(self, store: Store, bucket: str) -> None:
        put(store, bucket, "old", b"old")
        writer = store.create(bucket, "old")
        writer.write_at(0, b"new")
        writer.abort()
        assert get(store, bucket, "old") == b"old"

    # --- the same bytes, or an error -----------------------------------------------------------------------------

    def test_a_pin_opens_the_same_bytes(self, store: Store, bucket: str) -> None:
        put(store, bucket, "pinned", b"these")
        first = store.open(bucket, "pinned")
        assert first.pin.size == 5
        again = store.open(bucket, "pinned", first.pin)
        assert again.pin == first.pin
        assert read_all(again) == b"these"
        first.close()

    def test_a_pin_refuses_other_bytes(self, store: Store, bucket: str) -> None:
        put(store, bucket, "changed", b"these")
        blob = store.open(bucket, "changed")
        pin = blob.pin
        blob.close()
        put(store, bucket, "changed", b"THOSE")
        with pytest.raises(BlobChangedError, match="changed"):
            # A store that asks for nothing when it opens may find out at the first read.
            read_all(store.open(bucket, "changed", pin))

    def test_an_open_blob_never_gives_other_bytes(self, store: Store, bucket: str) -> None:
        put(store, bucket, "replaced-while-open", b"a" * 1000)
        blob = store.open(bucket, "replaced-while-open")
        put(store, bucket, "replaced-while-open", b"b" * 1000)
        with suppress(BlobChangedError):  # a store that cannot keep the old bytes says so
            assert read_all(blob) == b"a" * 1000

    # --- what is missing is named --------------------------------------------------------------------------------

    def test_a_missing_key_is_named(self, store: Store, bucket: str) -> None:
        with pytest.raises(BlobNotFoundError, match=r"nothing/here\.ova"):
            store.open(bucket, "nothing/here.ova")

    def test_a_missing_bucket_is_named(self, store: Store, bucket: str) -> None:
        with pytest.raises(BlobNotFoundError, match="no-such-bucket"):
            store.open("no-such-bucket", "key")

    def test_a_missing_bucket_has_no_keys_to_tell(self, store: Store, bucket: str) -> None:
        with pytest.raises(BlobNotFoundError, match="no-such-bucket"):
            list(store.keys("no-such-bucket"))

    # --- delete and keys -----------------------------------------------------------------------------------------

    def test_delete_removes_and_may_be_repeated(self, store: Store, bucket: str) -> None:
        put(store, bucket, "gone", b"x")
        store.delete(bucket, "gone")
        store.delete(bucket, "gone")
        with pytest.raises(BlobNotFoundError):
            store.open(bucket, "gone")
        assert list(store.keys(bucket, "gone")) == []

    def test_keys_come_in_order_and_by_prefix(self, store: Store, bucket: str) -> None:
        # "-" and "." sort before "/": a directory listing sorted by name alone would give another order.
        names = ["list/a", "list/a-b", "list/a.b/c", "list/a/b", "list/aa", "list/é", "listen"]
        nested = [name for name in names if name != "list/a"]  # not every store holds both "a" and "a/b"
        for name in reversed(nested):
            put(store, bucket, name, b"x")
        assert list(store.keys(bucket, "list")) == nested
        assert list(store.keys(bucket, "list/a")) == ["list/a-b", "list/a.b/c", "list/a/b", "list/aa"]
        assert list(store.keys(bucket, "list/a/")) == ["list/a/b"]
        assert list(store.keys(bucket, "list/b")) == []


class ResumeContract(StoreContract):
    """Every Store that ``SupportsResume``."""

    @staticmethod
    def resume(store: Store, bucket: str, key: str) -> ResumableBlobWriter:
        assert isinstance(store, SupportsResume)
        return store.resume(bucket, key)

    def test_several_writers_make_one_blob(self, store: Store, bucket: str) -> None:
        data = letters(4)
        first, second = self.resume(store, bucket, "shared/a"), self.resume(store, bucket, "shared/a")
        second.write_at(128 * KIB, data[128 * KIB :])
        first.write_at(0, data[: 128 * KIB])
        first.detach()
        assert list(store.keys(bucket, "shared/")) == []
        second.finish()
        assert get(store, bucket, "shared/a") == data

    def test_detached_work_goes_on(self, store: Store, bucket: str) -> None:
        data = letters(3)
        for index in range(3):
            writer = self.resume(store, bucket, "slices")
            writer.write_at(index * 64 * KIB, data[index * 64 * KIB : (index + 1) * 64 * KIB])
            writer.detach()
        self.resume(store, bucket, "slices").finish()
        assert get(store, bucket, "slices") == data

    def test_data_ranges_tell_what_anybody_wrote(self, store: Store, bucket: str) -> None:
        first, second = self.resume(store, bucket, "ranges"), self.resume(store, bucket, "ranges")
        assert list(first.data_ranges(0, 8 * MIB)) == []
        first.write_at(MIB, letters(16))
        second.write_at(4 * MIB, letters(16))
        second.set_size(8 * MIB)
        for writer in (first, second):
            assert list(writer.data_ranges(0, 8 * MIB)) == [(MIB, 2 * MIB), (4 * MIB, 5 * MIB)]
            assert list(writer.data_ranges(2 * MIB, 4 * MIB)) == []
            assert list(writer.data_ranges(MIB + 64 * KIB, MIB + 128 * KIB)) == [(MIB + 64 * KIB, MIB + 128 * KIB)]
            assert list(writer.data_ranges(5 * MIB, 1 << 42)) == []
        first.detach()
        second.abort()

    def test_finish_twice_is_the_same_as_once(self, store: Store, bucket: str) -> None:
        first, second = self.resume(store, bucket, "twice"), self.resume(store, bucket, "twice")
        first.write_at(0, b"all of it")
        first.finish()
        second.finish()
        assert get(store, bucket, "twice") == b"all of it"

    def test_resume_of_a_finished_blob_changes_nothing(self, store: Store, bucket: str) -> None:
        """A worker that died behind ``finish`` is replaced by one that does the whole step again."""
        first = self.resume(store, bucket, "done")
        first.write_at(64 * KIB, letters(1))
        first.finish()
        again = self.resume(store, bucket, "done")
        assert list(again.data_ranges(0, MIB)) == [(64 * KIB, 128 * KIB)]
        again.write_at(64 * KIB, letters(1))
        again.set_size(128 * KIB)
        again.finish()
        assert get(store, bucket, "done") == bytes(64 * KIB) + letters(1)
        cancelled = self.resume(store, bucket, "done")
        cancelled.abort()
        self.resume(store, bucket, "done").detach()
        assert get(store, bucket, "done") == bytes(64 * KIB) + letters(1)

    def test_abort_of_one_ends_it_for_all(self, store: Store, bucket: str) -> None:
        first, second = self.resume(store, bucket, "stopped"), self.resume(store, bucket, "stopped")
        first.write_at(0, b"x")
        first.abort()
        with pytest.raises(StoreError, match="stopped"):
            second.finish()
        assert list(store.keys(bucket, "stopped")) == []
        fresh = self.resume(store, bucket, "stopped")
        assert list(fresh.data_ranges(0, MIB)) == []
        fresh.abort()

    def test_a_latecomer_does_not_finish_anothers_work(self, store: Store, bucket: str) -> None:
        late = self.resume(store, bucket, "late")
        late.abort()
        fresh = self.resume(store, bucket, "late")
        fresh.write_at(0, b"half")
        late.abort()
        fresh.write_at(4, b" and half")
        fresh.finish()
        assert get(store, bucket, "late") == b"half and half"

    def test_an_unfinished_blob_is_no_blob(self, store: Store, bucket: str) -> None:
        writer: BlobWriter = self.resume(store, bucket, "part/of")
        writer.write_at(0, b"x")
        with pytest.raises(BlobNotFoundError):
            store.open(bucket, "part/of")
        assert list(store.keys(bucket, "part")) == []
        writer.abort()

    def test_locate_names_what_is_missing(self, store: Store, bucket: str) -> None:
        assert isinstance(store, SupportsResume)
        with pytest.raises(BlobNotFoundError, match="nowhere"):
            store.locate(bucket, "nowhere")
