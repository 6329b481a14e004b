"""What SQLite's errors mean for a journal: full (later), busy (somebody else), or not to be trusted again."""

from __future__ import annotations

import errno

import apsw

from minicloud.base.errors import CloudError, InsufficientStorage, Internal, Unavailable

FULL_ERRNOS = frozenset({errno.ENOSPC, errno.EDQUOT})

# After a failed fsync the kernel may have dropped the pages that it could not write, and the next fsync succeeds.
# So such an error is never "full", whatever errno says: what was written before it may be gone.
SYNC_CODES = frozenset({apsw.SQLITE_IOERR_FSYNC, apsw.SQLITE_IOERR_DIR_FSYNC, apsw.SQLITE_IOERR_DIR_CLOSE})


def meaning(error: apsw.Error, system_errno: int) -> CloudError:
    """The error that a caller gets. Internal: the journal must not write again until it is reopened."""
    code = getattr(error, "extendedresult", 0)
    if code not in SYNC_CODES:
        if isinstance(error, apsw.FullError) or (isinstance(error, apsw.IOError) and system_errno in FULL_ERRNOS):
            return InsufficientStorage()
        if isinstance(error, (apsw.BusyError, apsw.LockedError)):
            return Unavailable("Another process holds the store; retry.")
    return Internal(f"The store failed and takes no more changes until it is reopened: {error}")
