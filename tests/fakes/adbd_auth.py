"""What adbd knows of its owner's keys: reads Android's public keys and checks the signature under a token."""

from __future__ import annotations

import base64
import binascii
import os
import struct
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

TOKEN, SIGNATURE, PUBLIC_KEY = 1, 2, 3
TOKEN_BYTES = 20
_WORDS = 64  # 2048 bits
_KEY = struct.Struct(f"<II{4 * _WORDS}s{4 * _WORDS}sI")  # words, -1/n mod 2^32, modulus, R^2 mod n, exponent
_SHA1 = bytes.fromhex("3021300906052b0e03021a05000414")  # what PKCS #1 puts before a SHA-1 digest


@dataclass(frozen=True, slots=True)
class PublicKey:
    modulus: int
    exponent: int

    @classmethod
    def parse(cls, text: str | bytes) -> PublicKey:
        """A line of an `adbkey.pub`. Raises: ValueError if it is none."""
        data = text.encode() if isinstance(text, str) else text
        words = data.rstrip(b"\0").split()
        try:
            blob = base64.b64decode(words[0], validate=True)
            count, inverse, modulus, squared, exponent = _KEY.unpack(blob)
        except (IndexError, binascii.Error, struct.error) as error:
            raise ValueError(f"no public key of Android: {data[:40]!r}") from error
        key = cls(int.from_bytes(modulus, "little"), exponent)
        if count != _WORDS or exponent not in (3, 65537) or key.modulus % 2 == 0:
            raise ValueError("a public key with numbers that make none")
        if (inverse * key.modulus + 1) % 2**32 or int.from_bytes(squared, "little") != pow(2, 64 * _WORDS, key.modulus):
            raise ValueError(
                "a public key whose helping numbers (n0inv, rr) are wrong: a phone would not verify with it"
            )
        return key

    def signed(self, token: bytes, signature: bytes) -> bool:
        """Whether the owner of the key signed the token (as if it were a SHA-1 digest, PKCS #1 v1.5)."""
        if len(signature) != 4 * _WORDS:
            return False
        opened = pow(int.from_bytes(signature, "big"), self.exponent, self.modulus).to_bytes(4 * _WORDS, "big")
        end = _SHA1 + token
        return opened == b"\0\1" + b"\xff" * (4 * _WORDS - 3 - len(end)) + b"\0" + end


@dataclass
class Owner:
    """Who may connect: everybody (None), whom the owner allows at the phone, nobody, or those with known keys.

    `keys` grow when "allow" lets one in. `tap_s`: how long the owner takes to tap "Allow".
    """

    answer: Literal["allow", "refuse"] | None = None
    keys: list[PublicKey] = field(default_factory=list)
    tap_s: float = 0.0
    asked: list[str] = field(default_factory=list)  # the public keys that clients offered
    signatures: int = 0  # that were tried

    @classmethod
    def of(cls, auth: str | Iterable[str] | None, tap_s: float) -> Owner | None:
        """None where no one is asked."""
        if auth is None:
            return None
        if auth in ("allow", "refuse"):
            return cls(auth, tap_s=tap_s)  # type: ignore[arg-type]
        if isinstance(auth, str):
            raise ValueError(f'auth is None, "allow", "refuse" or a list of public keys, not {auth!r}')
        return cls("refuse", [PublicKey.parse(text) for text in auth], tap_s)

    def knows(self, token: bytes, signature: bytes) -> bool:
        self.signatures += 1
        return any(key.signed(token, signature) for key in self.keys)

    def allows(self, data: bytes) -> bool:
        """Asks the owner about an unknown key."""
        try:
            key = PublicKey.parse(data)
        except ValueError:
            return False
        self.asked.append(data.rstrip(b"\0").decode("utf-8", "replace"))
        if self.answer == "allow":
            self.keys.append(key)
        return self.answer == "allow"


def token() -> bytes:
    """Twenty new bytes to be signed."""
    return os.urandom(TOKEN_BYTES)
