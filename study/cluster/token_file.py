"""Ray's token file: whoever reads it may run code on the cluster. Ray makes it readable by all."""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from pathlib import Path


def keep_token_private() -> None:
    """Make Ray's own token file readable by its owner alone, before Ray makes it; leave one named elsewhere alone.

    Where that cannot be done Ray starts all the same, or says why not.
    """
    if os.environ.get("RAY_AUTH_TOKEN") or os.environ.get("RAY_AUTH_TOKEN_PATH"):
        return
    with suppress(OSError, RuntimeError):  # no home, or one that cannot be written
        path = Path.home() / ".ray" / "auth_token"
        path.parent.mkdir(mode=0o700, exist_ok=True)
        try:
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            path.chmod(0o600)
            return
        with os.fdopen(handle, "w") as file:
            file.write(secrets.token_hex(32))
