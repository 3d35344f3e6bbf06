"""The RSA keys by which phones know this computer: adb's own where there is one, else one we make."""

from __future__ import annotations

import os
import shlex
import stat
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from amc_mobile.errors import DeviceError, first_line


@dataclass(frozen=True, slots=True)
class Signer:
    """One key: signs a phone's token, and introduces itself."""

    path: Path
    public_key: bytes  # as adb writes it: base64, then a name
    key: Any

    def sign(self, token: bytes) -> bytes:
        """The signature of a 20-byte token."""
        signature: bytes = self.key.Sign(token)
        return signature


def signers(
    *,
    notice: Callable[[str], None] | None = None,
    home: Path | None = None,
    environment: Mapping[str, str] = os.environ,
) -> list[Signer]:
    """The keys to offer, the likeliest first: adb's, then ours, which is made when there is no other.

    `notice` gets a line about a key that others can read. Raises: DeviceError for a key that cannot be read or made.
    """
    home = home or Path.home()
    stock = home / ".android" / "adbkey"
    own = Path(environment.get("XDG_CONFIG_HOME") or home / ".config") / "amc-mobile" / "adbkey"
    if not own.exists() and not stock.exists():
        make(own)
    paths = [path for path in (stock, own) if path.exists()]
    for path in paths:
        if notice and path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            notice(f"others on this computer can use the ADB key {path}; type `chmod 600 {shlex.quote(str(path))}`")
    return [_signer(path) for path in paths]


def make(path: Path) -> None:
    """A key pair at `path` and `path`.pub, readable by nobody else at any moment. Raises: DeviceError."""
    from adb_shell.auth.keygen import keygen

    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Made in a folder of mode 0700, where nobody can look, then given its name, which it gets once.
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            draft = Path(folder) / path.name
            draft.touch(mode=0o600)
            keygen(str(draft))
            path.hardlink_to(draft)
            Path(f"{draft}.pub").rename(f"{path}.pub")
    except FileExistsError:
        return  # somebody else made one meanwhile: one pair is kept
    except OSError as error:
        raise DeviceError(f"no ADB key can be made at {path} ({error.strerror}); mend the folder's rights") from error


def _signer(path: Path) -> Signer:
    """The key at `path`. Raises: DeviceError if it cannot be read."""
    from adb_shell.auth.keygen import write_public_keyfile
    from adb_shell.auth.sign_cryptography import CryptographySigner

    try:
        if Path(f"{path}.pub").exists():
            return _signer_of(path, CryptographySigner(str(path)))
        with tempfile.TemporaryDirectory() as folder:  # adb can do without the public half, adb-shell cannot
            link = Path(folder) / "key"
            link.symlink_to(path.absolute())
            write_public_keyfile(str(path), f"{link}.pub")
            return _signer_of(path, CryptographySigner(str(link)))
    except (OSError, ValueError, TypeError) as error:
        raise DeviceError(
            f"the ADB key {path} is of no use ({first_line(error)}); move it away and try again"
        ) from error


def _signer_of(path: Path, signer: Any) -> Signer:
    return Signer(path, bytes(signer.GetPublicKey()).strip(), signer)
