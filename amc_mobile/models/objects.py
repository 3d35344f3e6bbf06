"""What a picture shows: boxes with classes. The labels of detection, as classes are those of classification."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class Objects:
    """The objects of one picture.

    `boxes` are float32 (K, 4): left, top, right, bottom as shares of the picture's width and height, so that they hold
    at every size. `classes` count from 0, int64 (K,). What is `ignored` (a crowd, an object marked as difficult) is
    neither learnt nor demanded, bool (K,).
    """

    boxes: NDArray[np.float32]
    classes: NDArray[np.int64]
    ignored: NDArray[np.bool_]

    @staticmethod
    def of(boxes: Sequence[Sequence[float]], classes: Sequence[int], ignored: Sequence[bool] | None = None) -> Objects:
        """From plain lists; boxes are cut at the picture's edges, and those without any area left out."""
        shares = np.clip(np.asarray(boxes, np.float32).reshape(-1, 4), 0.0, 1.0)
        whole = (shares[:, 2] > shares[:, 0]) & (shares[:, 3] > shares[:, 1])
        skipped = np.zeros(len(shares), bool) if ignored is None else np.asarray(ignored, bool)
        return Objects(shares[whole], np.asarray(classes, np.int64)[whole], skipped[whole])

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Objects):
            return NotImplemented
        return all(np.array_equal(getattr(self, name), getattr(other, name)) for name in self.__slots__)

    __hash__ = None  # type: ignore[assignment]  # arrays can be changed

    def __len__(self) -> int:
        return len(self.classes)


def as_labels(objects: Sequence[Objects]) -> NDArray[np.object_]:
    """One entry per picture, (N,), to be indexed like classes."""
    labels = np.empty(len(objects), object)
    labels[:] = list(objects)
    return labels
