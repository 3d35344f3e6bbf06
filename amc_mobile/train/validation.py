"""Training images set aside, and what is decided by them: which epoch counts, and when it is enough."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from amc_mobile.errors import ConfigError


def set_aside(count: int, validation: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Sorted positions of the images that are trained on, and of those that judge; the same for the same seed.

    Raises: ConfigError if nothing would be left to train on.
    """
    if validation >= count:
        raise ConfigError(
            f"validation_images = {validation} leaves none of the {count} training images; set it lower, or 0"
        )
    if validation == 0:
        return np.arange(count), np.arange(0)
    order = np.random.default_rng([seed, validation]).permutation(count)
    return np.sort(order[validation:]), np.sort(order[:validation])


@dataclass(slots=True)
class Judge:
    """Remembers the best epoch (from 1; 0: none yet) and how many epochs have passed since.

    A later epoch must be better: of equals the first one counts.
    """

    patience: int | None
    best_epoch: int = 0
    best_accuracy: float = -1.0
    epochs_since: int = 0

    def improved(self, epoch: int, accuracy: float) -> bool:
        """Takes note of an epoch; whether it is the best so far."""
        better = accuracy > self.best_accuracy
        if better:
            self.best_epoch, self.best_accuracy, self.epochs_since = epoch, accuracy, 0
        else:
            self.epochs_since += 1
        return better

    @property
    def impatient(self) -> bool:
        """Whether it is time to stop."""
        return self.patience is not None and self.epochs_since >= self.patience
