"""Where are a tenant's files, and how do they get there? Bytes go to disk as they come; SQL says whose they are."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import BinaryIO

from qosqueue.errors import Conflict, NotFound, StoreUnavailable
from qosqueue.store.clock import now_ms
from qosqueue.store.file_record import FileRecord, StoredFile
from qosqueue.store.ids import new_id

FILE_ID = re.compile(r"file_[0-9a-f]{24}")
# What is written and not yet on record; whoever was killed while writing leaves it behind.
PART = ".part"
ORPHAN_AFTER_S = 3_600
DAY_MS = 86_400_000
AT_ONCE = 100
PIECE_BYTES = 65_536


class Files:
    """Files in one folder, named by their ids. Raises StoreUnavailable if SQL or the disk does not take them."""

    def __init__(self, record: FileRecord, folder: Path, *, keep_days: int) -> None:
        self._record = record
        self._folder = folder
        self._keep_ms = keep_days * DAY_MS

    @contextmanager
    def new(self) -> Iterator[NewFile]:
        """A file to write to, then to `keep`. What is not kept when the block ends is gone."""
        with told_plainly(self._folder):
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            made = NewFile(self._folder, self._record, self._keep_ms)
            try:
                yield made
            finally:
                made.drop()

    def get(self, tenant_id: str, file_id: str) -> StoredFile:
        """A tenant's own file; raises NotFound, the same for another tenant's as for none."""
        found = self._record.find(tenant_id, file_id) if FILE_ID.fullmatch(file_id) else None
        if found is None:
            raise NotFound(f"No file {file_id!r}.")
        return found

    def list(
        self,
        tenant_id: str,
        limit: int,
        *,
        after: str | None = None,
        purpose: str | None = None,
        newest_first: bool = True,
    ) -> list[StoredFile]:
        """A page of a tenant's files; `after` is the id of the last one seen (raises NotFound)."""
        seen = None if after is None else self.get(tenant_id, after)
        return self._record.page(tenant_id, limit, after=seen, purpose=purpose, newest_first=newest_first)

    def open(self, file: StoredFile) -> BinaryIO:
        """Its bytes. Raises NotFound if they are gone."""
        try:
            return self.path(file.id).open("rb")
        except FileNotFoundError as error:
            raise NotFound(f"No file {file.id!r}.") from error

    def path(self, file_id: str) -> Path:
        """Where the bytes are."""
        return self._folder / file_id

    def delete(self, tenant_id: str, file_id: str) -> StoredFile:
        """Forget a file. Raises NotFound, and Conflict while a batch reads it."""
        file = self.get(tenant_id, file_id)
        if not self._record.delete_unless_read(file_id):
            raise Conflict(f"file {file_id} is read by a batch that has not ended")
        with told_plainly(self._folder):
            self.path(file_id).unlink(missing_ok=True)
        return file

    def sweep(self) -> int:
        """Remove what has expired, and what somebody who was killed has left behind; how many files."""
        gone = [
            file_id for file_id in self._record.expired(now_ms(), AT_ONCE) if self._record.delete_unless_read(file_id)
        ]
        with told_plainly(self._folder):
            for file_id in gone:
                self.path(file_id).unlink(missing_ok=True)
            return len(gone) + self._remove_orphans()

    def _remove_orphans(self) -> int:
        if not self._folder.is_dir():
            return 0
        old_s = time.time() - ORPHAN_AFTER_S
        count = 0
        names: list[str] = []
        with os.scandir(self._folder) as entries:
            for entry in entries:
                if entry.name.endswith(PART) or FILE_ID.fullmatch(entry.name):
                    try:
                        if entry.stat().st_mtime < old_s:
                            names.append(entry.name)
                    except FileNotFoundError:
                        continue  # another process sweeps too
                if len(names) >= AT_ONCE:
                    count += self._remove_unknown(names)
                    names = []
        return count + self._remove_unknown(names)

    def _remove_unknown(self, names: Sequence[str]) -> int:
        unknown = set(names) - self._record.known(names)
        for name in unknown:
            (self._folder / name).unlink(missing_ok=True)
        return len(unknown)


class NewFile:
    """A file that is being written: `write` takes its bytes, `keep` puts it on record."""

    def __init__(self, folder: Path, record: FileRecord, keep_ms: int) -> None:
        self.id = new_id("file")
        self.size = 0
        self._path = folder / self.id
        self._part = folder / f"{self.id}{PART}"
        self._record = record
        self._keep_ms = keep_ms
        self._out: BinaryIO = self._part.open("xb")

    def write(self, data: bytes) -> int:
        """Take some bytes."""
        self.size += len(data)
        return self._out.write(data)

    def place(self) -> None:
        """Bring the bytes to their place on disk for good. Nobody knows of them before they are on record."""
        self._out.flush()
        os.fsync(self._out.fileno())
        self._out.close()
        self._part.rename(self._path)

    def described(self, tenant_id: str, purpose: str, filename: str, ttl_ms: int | None = None) -> StoredFile:
        """What the record is to say of it; without `ttl_ms` it lives as long as files do."""
        at_ms = now_ms()
        expires_ms = at_ms + (self._keep_ms if ttl_ms is None else ttl_ms)
        return StoredFile(self.id, tenant_id, purpose, filename, self.size, at_ms, expires_ms)

    def keep(self, tenant_id: str, purpose: str, filename: str, ttl_ms: int | None = None) -> StoredFile:
        """Put it on record."""
        self.place()
        file = self.described(tenant_id, purpose, filename, ttl_ms)
        self._record.insert(file)
        return file

    def keep_within(
        self, most_bytes: int, tenant_id: str, purpose: str, filename: str, ttl_ms: int | None = None
    ) -> StoredFile | None:
        """Put it on record; None, and it is gone, if its tenant's files would come to more than `most_bytes`."""
        self.place()
        file = self.described(tenant_id, purpose, filename, ttl_ms)
        if self._record.insert_within(file, most_bytes):
            return file
        self._path.unlink()
        return None

    def drop(self) -> None:
        """Remove what was not brought to its place."""
        self._out.close()
        self._part.unlink(missing_ok=True)


@contextmanager
def told_plainly(folder: Path) -> Iterator[None]:
    """A full disk or a folder that cannot be written, as StoreUnavailable."""
    try:
        yield
    except OSError as error:
        raise StoreUnavailable(f"files in {folder}: {error.strerror or error}") from error


def pieces(source: BinaryIO, size: int = PIECE_BYTES) -> Iterator[bytes]:
    """The bytes of a file, a piece at a time; closes it."""
    with source:
        yield from iter(partial(source.read, size), b"")
