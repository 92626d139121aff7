"""Files as the disk tier uses them: no link followed, nothing of other users read, no write half done unnoticed."""

import errno
import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, sleep

from infergc.worker.disk.news import Failure

_SAFELY = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK  # a link is an error; a pipe opens without a writer
_LOCK_PAUSE = 0.01  # seconds between two tries to get a lock


class StrangeFileError(OSError):
    """Not a regular file of this user's."""


@contextmanager
def opened(path: Path, flags: int = os.O_RDONLY) -> Iterator[int]:
    """A file descriptor of an existing file of this user's.

    Raises:
        StrangeFileError: it is something else, or somebody else's.
        OSError: it cannot be opened.
    """
    fd = os.open(path, flags | _SAFELY)
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid():
            raise StrangeFileError(errno.EPERM, "not a regular file of this user's", str(path))
        yield fd
    finally:
        os.close(fd)


def made(path: Path) -> int:
    """The descriptor of a new file that only this user may read or write.

    Raises:
        OSError: it is there already, or cannot be made.
    """
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | _SAFELY, 0o600)


def read_at(fd: int, out: memoryview, at: int) -> int:
    """Fill ``out`` from position ``at``. Returns the bytes there were: fewer where the file ends before."""
    done = 0
    while done < len(out):
        got = os.preadv(fd, [out[done:]], at + done)
        if got == 0:
            break
        done += got
    return done


def write_at(fd: int, data: memoryview, at: int) -> None:
    """Write all of ``data`` at position ``at``.

    Raises:
        OSError: not all of it could be written; some of it may have been.
    """
    done = 0
    while done < len(data):
        got = os.pwrite(fd, data[done:], at + done)
        if got == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        done += got


def locked(fd: int) -> bool:
    """Take a file for this descriptor alone, until it is closed. Returns whether nobody else has it."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def lock_file(path: Path, patience: float) -> Iterator[None]:
    """Hold a lock that processes share by its file's path, which is made if need be.

    Raises:
        OSError: the file cannot be made, or others held the lock for ``patience`` seconds.
    """
    fd = os.open(path, os.O_RDWR | os.O_CREAT | _SAFELY, 0o600)
    try:
        until = monotonic() + patience
        while not locked(fd):
            if monotonic() >= until:
                raise OSError(errno.EBUSY, "another process holds the lock", str(path))
            sleep(_LOCK_PAUSE)
        yield
    finally:
        os.close(fd)


_OF_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def why_unwritten(error: OSError) -> Failure:
    """What kind of failure a failed write is."""
    return Failure.FULL if error.errno in _OF_SPACE else Failure.UNWRITABLE


def why_unread(error: OSError) -> Failure:
    """What kind of failure a failed read is."""
    if isinstance(error, StrangeFileError) or error.errno == errno.ELOOP:
        return Failure.FOREIGN
    if error.errno in {errno.ENOENT, errno.ENOTDIR, errno.ESTALE}:
        return Failure.VANISHED
    return Failure.UNREADABLE
