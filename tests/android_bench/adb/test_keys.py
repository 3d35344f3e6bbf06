"""Keys: adb's own is used; ours is readable by nobody else at any moment."""

from __future__ import annotations

import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from amc_mobile.errors import DeviceError
from android_bench import keys
from tests.fakes.adbd_auth import Owner, PublicKey, token


@pytest.fixture
def home(tmp_path):
    return tmp_path / "someone"


def test_a_key_is_made_once_and_phones_accept_its_signature(home):
    (first,), (again,) = (keys.signers(home=home, environment={}) for _ in range(2))
    assert first.path == again.path == home / ".config/amc-mobile/adbkey"
    assert first.public_key == again.public_key
    asked = token()
    assert Owner.of([first.public_key.decode()], 0.0).knows(asked, first.sign(asked))
    assert PublicKey.parse(first.public_key)


def test_only_the_user_can_read_it(home):
    before = os.umask(0)
    try:
        (signer,) = keys.signers(home=home, environment={"XDG_CONFIG_HOME": str(home / "xdg")})
    finally:
        os.umask(before)
    assert signer.path == home / "xdg/amc-mobile/adbkey"
    assert stat.S_IMODE(signer.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(signer.path.parent.stat().st_mode) == 0o700
    assert {path.name for path in signer.path.parent.iterdir()} == {"adbkey", "adbkey.pub"}


def test_it_is_private_while_it_is_made(home, monkeypatch):
    import adb_shell.auth.keygen

    seen: list[int] = []
    whole = adb_shell.auth.keygen.keygen

    def watched(path: str) -> None:
        whole(path)
        seen.extend(stat.S_IMODE(place.stat().st_mode) for place in (Path(path), Path(path).parent))

    monkeypatch.setattr(adb_shell.auth.keygen, "keygen", watched)
    before = os.umask(0)
    try:
        keys.signers(home=home, environment={})
    finally:
        os.umask(before)
    assert seen == [0o600, 0o700]


@pytest.mark.parametrize("public", [True, False])
def test_adbs_own_key_comes_first(home, public):
    stock = home / ".android/adbkey"
    keys.make(stock)
    keys.make(home / ".config/amc-mobile/adbkey")
    if not public:  # adb can do without
        (home / ".android/adbkey.pub").unlink()
    first, second = keys.signers(home=home, environment={})
    assert (first.path, second.path) == (stock, home / ".config/amc-mobile/adbkey")
    asked = token()
    assert Owner.of([first.public_key.decode()], 0.0).knows(asked, first.sign(asked))


def test_none_is_made_beside_adbs_own(home):
    keys.make(home / ".android/adbkey")
    assert len(keys.signers(home=home, environment={})) == 1
    assert not (home / ".config").exists()


def test_one_pair_is_made_by_many_at_once(home):
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: keys.signers(home=home, environment={}), range(8)))
    (last,) = keys.signers(home=home, environment={})
    asked = token()
    for (signer,) in [*found, [last]]:
        key = signer.public_key.split()[0].decode()
        assert key == last.public_key.split()[0].decode()
        assert Owner.of([key], 0.0).knows(asked, signer.sign(asked))


def test_a_key_that_others_can_read_is_told_of(home):
    keys.make(home / ".android/adbkey")
    (home / ".android/adbkey").chmod(0o644)
    notes: list[str] = []
    keys.signers(notice=notes.append, home=home, environment={})
    assert len(notes) == 1 and "chmod 600" in notes[0]


@pytest.mark.parametrize("content", [b"", b"no key", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"])
def test_a_file_that_is_no_key(home, content):
    keys.make(home / ".android/adbkey")
    (home / ".android/adbkey").write_bytes(content)
    with pytest.raises(DeviceError, match="is of no use") as caught:
        keys.signers(home=home, environment={})
    assert str(caught.value).isprintable()


def test_a_home_that_cannot_be_written(home):
    home.parent.mkdir(exist_ok=True)
    home.write_text("a file where a folder should be")
    with pytest.raises(DeviceError, match="no ADB key can be made"):
        keys.signers(home=home, environment={})
