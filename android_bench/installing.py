"""The runner's bundle on the phone: one folder for each content, sent once, checked by hash before it is used."""

from __future__ import annotations

import hashlib
import posixpath
from collections.abc import Callable, Mapping

from amc_mobile.errors import DeviceError
from android_bench.adb import Adb, quote
from android_bench.bundle import Bundle

_CHECK_S = 120.0


def install(adb: Adb, bundle: Bundle, root: str, told: Callable[[int, int], None] | None = None) -> str:
    """The folder on the phone in which the bundle lies; what is missing or damaged there is sent.

    `told` hears bytes sent and to send. Raises: DeviceError if what arrived is not what was sent.
    """
    folder = posixpath.join(root, f"runner-{bundle.digest[:16]}")
    wanted = {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in bundle.files.items()}
    there = _hashes(adb, folder, wanted)
    missing = [name for name, digest in wanted.items() if there.get(name) != digest]
    if not missing:
        return folder
    adb.shell(f"mkdir -p {quote(folder)}", timeout_s=_CHECK_S, again=True)
    total, before = sum(bundle.files[name].stat().st_size for name in missing), 0
    for name in missing:
        data = bundle.files[name].read_bytes()

        def sent(done: int, _total: int, before: int = before) -> None:
            if told is not None:
                told(before + done, total)

        mode = 0o755 if name in bundle.executables else 0o644
        adb.push(data, posixpath.join(folder, name), mode=mode, progress=sent)
        before += len(data)
    adb.shell(f"chmod -R go-w {quote(folder)}", timeout_s=_CHECK_S, again=True)  # adbd lets everybody write
    there = _hashes(adb, folder, wanted)
    if wrong := [name for name, digest in wanted.items() if there.get(name) != digest]:
        raise DeviceError(f"{wrong[0]} arrived damaged on the device; check the cable, and type the same command again")
    return folder


def _hashes(adb: Adb, folder: str, names: Mapping[str, str]) -> dict[str, str]:
    """SHA-256 by name of those files that are there."""
    command = f"cd {quote(folder)} 2>/dev/null && sha256sum {' '.join(map(quote, names))} 2>/dev/null"
    said = adb.shell(command, timeout_s=_CHECK_S, again=True).stdout.decode("utf-8", "replace")
    pairs = (line.split(maxsplit=1) for line in said.splitlines())
    return {words[1].strip().removeprefix("*"): words[0] for words in pairs if len(words) == 2}
