"""Tests mirror the packages. A package itself, so that a folder here cannot hide a module of the standard library."""
