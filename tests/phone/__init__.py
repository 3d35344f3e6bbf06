"""The phone path against its real counterparts: adb clients, the real adbd, the aarch64 runner. See counterparts.py."""
