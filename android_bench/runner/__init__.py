"""The program that measures on a phone: one C file, its contract PROTOCOL.md, and the host's side of that contract."""
