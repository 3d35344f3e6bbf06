"""Training images, each time a little different."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn import functional


@dataclass(frozen=True, slots=True)
class Changes:
    """What happens to the images of one batch: corners (N, 2) of the crops in the padded images, who is mirrored (N,).

    None: nothing of the kind. Drawn for the whole batch, on the CPU, so that chance is the same on every machine.
    """

    shift: int
    corners: torch.Tensor | None
    mirrored: torch.Tensor | None

    def share(self, places: slice) -> Changes:
        """Those of some of the images."""
        corners = None if self.corners is None else self.corners[places]
        return Changes(self.shift, corners, None if self.mirrored is None else self.mirrored[places])


def draw(count: int, shift: int, flip: bool, generator: torch.Generator) -> Changes:
    """Each image is moved by up to `shift` pixels and, if wanted, mirrored half of the time."""
    corners = torch.randint(0, 2 * shift + 1, (count, 2), generator=generator) if shift else None
    return Changes(shift, corners, torch.rand(count, generator=generator) < 0.5 if flip else None)


def augmented(images: torch.Tensor, changes: Changes) -> torch.Tensor:
    """The changed images (N, C, H, W), on their own device. What moves in from outside repeats the border."""
    _, _, height, width = images.shape
    if changes.corners is not None:
        padded = functional.pad(images, [changes.shift] * 4, mode="replicate")
        windows = padded.unfold(2, height, 1).unfold(3, width, 1)  # (N, C, tops, lefts, H, W), a view
        top, left = changes.corners.to(images.device).T
        images = windows[torch.arange(len(images), device=images.device), :, top, left]
    if changes.mirrored is not None:
        images = torch.where(changes.mirrored.to(images.device)[:, None, None, None], images.flip(-1), images)
    return images
