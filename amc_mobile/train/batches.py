"""Training images, batch by batch: from memory where they fit, else decoded while the batch before is trained on."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch

from amc_mobile.models.preprocessing import Preprocessing
from amc_mobile.models.splits import Split

IN_MEMORY_BYTES = 2 << 30  # of float32 images; more are decoded again in every epoch
_AHEAD = 2  # batches that are decoded in advance


class ImageSource(Protocol):
    """Images by position, prepared for the network."""

    def __len__(self) -> int:
        """How many there are."""
        ...

    def batches(self, positions: Iterable[torch.Tensor], device: torch.device) -> Iterator[torch.Tensor]:
        """float32 (len(each), C, H, W) for each int64 tensor of positions. Raises: DataError if one is unreadable."""
        ...

    def identity(self) -> str:
        """A digest of what the images are."""
        ...


class InMemory:
    """Images in an array, float32 (N, C, H, W). On a GPU they lie there."""

    def __init__(self, images: np.ndarray) -> None:
        self._images = torch.from_numpy(np.ascontiguousarray(images, np.float32))

    def __len__(self) -> int:
        return len(self._images)

    def batches(self, positions: Iterable[torch.Tensor], device: torch.device) -> Iterator[torch.Tensor]:
        """See ImageSource."""
        self._images = self._images.to(device)
        for places in positions:
            yield self._images[places.to(device)]

    def identity(self) -> str:
        """See ImageSource."""
        digest = hashlib.sha256(str(tuple(self._images.shape)).encode())
        digest.update(self._images.cpu().numpy().data)
        return digest.hexdigest()


@dataclass(frozen=True, slots=True)
class Streamed:
    """Pictures of a split, decoded when they are needed, by a thread that runs ahead (and Pillow's own threads)."""

    split: Split
    preprocessing: Preprocessing

    def __len__(self) -> int:
        return len(self.split)

    def batches(self, positions: Iterable[torch.Tensor], device: torch.device) -> Iterator[torch.Tensor]:
        """See ImageSource."""
        waiting: deque[Future[torch.Tensor]] = deque()
        with ThreadPoolExecutor(1) as reader:
            try:
                for places in positions:
                    waiting.append(reader.submit(self._read, places))
                    if len(waiting) > _AHEAD:
                        yield waiting.popleft().result().to(device)
                while waiting:
                    yield waiting.popleft().result().to(device)
            finally:
                for future in waiting:
                    future.cancel()

    def identity(self) -> str:
        """See ImageSource. The pictures themselves are not read: their source is named."""
        digest = hashlib.sha256(f"{self.split.images.name} {self.preprocessing}".encode())
        digest.update(np.ascontiguousarray(self.split.indices).data)
        return digest.hexdigest()

    def _read(self, places: torch.Tensor) -> torch.Tensor:
        indices = self.split.indices[places.numpy()]
        return torch.from_numpy(self.split.images.tensors(indices, self.preprocessing))


def training_images(split: Split, preprocessing: Preprocessing, most_bytes: int = IN_MEMORY_BYTES) -> ImageSource:
    """The split's images: in memory if they take at most so many bytes as float32, else streamed.

    Raises: DataError if a picture that is read now is damaged.
    """
    size = 4 * len(split) * int(np.prod(preprocessing.shape()))
    return InMemory(split.tensors(preprocessing)) if size <= most_bytes else Streamed(split, preprocessing)


def in_order(positions: Sequence[int] | np.ndarray, batch: int) -> list[torch.Tensor]:
    """The positions in batches, the last one smaller."""
    return list(torch.split(torch.as_tensor(np.asarray(positions, np.int64)), batch)) if len(positions) else []


def shuffled(positions: np.ndarray, batch: int, generator: torch.Generator) -> list[torch.Tensor]:
    """Full batches of the positions in random order; what does not fill a batch waits for the next epoch."""
    order = torch.as_tensor(np.asarray(positions, np.int64))[torch.randperm(len(positions), generator=generator)]
    return [part for part in torch.split(order, batch) if len(part) == batch]
