"""How a phone and we agree to talk: CNXN, and AUTH until it knows our key."""

from __future__ import annotations

from collections.abc import Callable

from android_bench import keys
from android_bench.adb import ConnectionLost, Refused, printable
from android_bench.packets import AUTH, CNXN, MOST_PAYLOAD_BYTES, STLS, VERSION, Packet, PacketLink
from android_bench.streams import Deadline, TimedOut

# What we can do. Not delayed_ack, which adb leaves out by default too: with packets of 1 MiB a window gains nothing.
_FEATURES = ("shell_v2", "cmd", "stat_v2", "ls_v2", "fixed_push_mkdir")
_TOKEN, _SIGNATURE, _PUBLIC_KEY = 1, 2, 3
_TOKEN_BYTES = 20  # a SHA-1, which is all that a key of ours ever signs
_ANSWER_S = 10.0
_MOST_PACKETS = 64  # of any kind, before we call it a game


def shake_hands(
    link: PacketLink,
    *,
    notice: Callable[[str], None] | None = None,
    authorise_s: float = 60.0,
) -> frozenset[str]:
    """The features of the phone, which from now on takes packets of the agreed version and length.

    With `authorise_s` 0, the owner of a phone that does not know us is not asked.

    Raises: Refused if it does not accept our key; ConnectionLost if it does not answer; ProtocolError.
    """
    deadline = Deadline(_ANSWER_S)
    banner = f"host::features={','.join(_FEATURES)}".encode()
    link.send(CNXN, VERSION, MOST_PAYLOAD_BYTES, banner, deadline)
    try:
        packet = _answer(link, deadline)
    except TimedOut as error:
        raise ConnectionLost(
            f"{link.name} does not answer (offline, or no phone); unlock it, plug it in again, and type `amc devices`"
        ) from error
    if packet.command == AUTH:
        packet = _authorise(link, packet, keys.signers(notice=notice), notice, authorise_s)
    link.agree(packet.arg0, packet.arg1)
    return _features(packet.payload)


def _answer(link: PacketLink, deadline: Deadline) -> Packet:
    """The next packet of a handshake. Raises: Refused for a phone that wants TLS."""
    for _ in range(_MOST_PACKETS):
        packet = link.receive(deadline)
        if packet.command == STLS:
            raise Refused(
                f"{link.name} uses wireless debugging with pairing, which only adb speaks; type `adb pair` and "
                "`adb connect`, then use it through the adb server, or type `adb tcpip 5555` over USB"
            )
        if packet.command in (CNXN, AUTH):
            return packet
    raise link.broken("it sends packets that no handshake has")


def _authorise(
    link: PacketLink,
    packet: Packet,
    signers: list[keys.Signer],
    notice: Callable[[str], None] | None,
    authorise_s: float,
) -> Packet:
    """The phone's CNXN, after it took one of our keys or its owner allowed the first. Raises: Refused."""
    deadline = Deadline(_ANSWER_S)
    try:
        for signer in signers:
            link.send(AUTH, _SIGNATURE, 0, signer.sign(_token(link, packet)), deadline)
            packet = _answer(link, deadline)
            if packet.command == CNXN:
                return packet
    except TimedOut as error:  # a lost connection is just that: the phone may come back, and trust us
        raise _unauthorised(link.name) from error
    if authorise_s <= 0:
        raise _unauthorised(link.name)
    try:
        if notice:
            notice(f"{link.name} asks whether it may be debugged: tap 'Allow' on its screen")
        deadline = Deadline(authorise_s)
        link.send(AUTH, _PUBLIC_KEY, 0, signers[0].public_key + b"\0", deadline)
        for _ in range(_MOST_PACKETS):  # each AUTH is the question once more
            packet = _answer(link, deadline)
            if packet.command == CNXN:
                return packet
    except (TimedOut, ConnectionLost) as error:
        raise _unauthorised(link.name) from error
    raise _unauthorised(link.name)


def _token(link: PacketLink, packet: Packet) -> bytes:
    """What the phone wants signed. Raises: ProtocolError for anything but a token."""
    if packet.arg0 != _TOKEN or len(packet.payload) != _TOKEN_BYTES:
        raise link.broken("what it wants signed is no token")
    return packet.payload


def _unauthorised(name: str) -> Refused:
    return Refused(
        f"{name} does not trust this computer; unlock it, run the command again, and tap 'Allow' on its screen "
        "(if it does not ask: revoke USB debugging authorisations in its developer options)"
    )


def _features(banner: bytes) -> frozenset[str]:
    """What the daemon can do, from a banner such as device::ro.product.name=x;features=shell_v2,cmd."""
    for part in banner.decode("utf-8", "replace").rstrip("\0").split(";"):
        key, _, value = part.rpartition("::")[2].partition("=")
        if key == "features":
            return frozenset(printable(feature) for feature in value.split(","))
    return frozenset()
