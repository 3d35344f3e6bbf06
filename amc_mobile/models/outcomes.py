"""What a network answers to each image, what that makes on average, and when it is certain that it cannot win.

Racing never changes the winner. With E errors so far among N images in all, accuracy will be at most 1 - E/N; a
divergence is never negative, so that its mean over N images is at least their sum so far divided by N. An evaluation
stops where even that is worse than what is to be beaten, at the first of a few nested subsets: the first 4/32, 5/32,
..., 32/32 of the images in the order of visits.

That order is chosen to make the end come soon: images that the original network itself finds hard come first. Every
fourth visit goes to a fair sample, which is spread evenly over easy and hard images, and after every visit as evenly as
can be. The score of an evaluation that was stopped is the mean over the fair sample so far, or the bound above where
that is worse. So it always stays below what was to be beaten, and it follows from the answers and the race alone,
however many images were really run.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax

from amc_mobile.trials import Race
from amc_mobile.types import Score

_SUBSETS, _FIRST = 32, 4  # a race is looked at after every 32nd of the images, from 4/32 on
_FAIR = 4  # every fourth visit
_ROUNDING = 1e-9  # relative: two ways to add up the same divergences differ by less
_EXTREME = 1e6  # stands for infinite logits, so that a broken network scores badly instead of breaking the search


@dataclass(frozen=True, slots=True)
class Outcomes:
    """Per image, as far as images were run: how many classes stand before the right one, and KL(original || this).

    The arrays are in the order of visits and have the length of what was run; `images` is how many there are in all.
    """

    ranks: NDArray[np.int64]
    divergences: NDArray[np.float64]
    images: int

    def score(self, race: Race | None = None) -> Score | None:
        """The score at the first subset that decides the race, or over all images; None if more must be run."""
        decided = self._decided(race) if race is not None else self.images
        if decided > len(self.ranks):
            return None
        ranks, divergences = self.ranks[:decided], self.divergences[:decided]
        every = 1 if decided == self.images else _FAIR
        return Score(
            top1=min(float(np.mean(ranks[::every] < 1)), self._most(int(np.sum(ranks >= 1)))),
            top5=min(float(np.mean(ranks[::every] < 5)), self._most(int(np.sum(ranks >= 5)))),
            kl=max(float(np.mean(divergences[::every])), float(np.sum(divergences)) / self.images),
            images=decided,
        )

    def _most(self, errors: int) -> float:
        """The accuracy that so many errors leave possible."""
        return (self.images - errors) / self.images

    def _decided(self, race: Race) -> int:
        """How many images show that `race` is lost; all of them if those that were run do not show it."""
        checks = np.array([-(-self.images * part // _SUBSETS) for part in range(_FIRST, _SUBSETS)])
        checks = checks[(checks > 0) & (checks <= len(self.ranks))]
        if race.reward == "kl":
            best = -np.cumsum(self.divergences)[checks - 1] / self.images * (1.0 - _ROUNDING)
        else:
            errors = np.cumsum(self.ranks >= (1 if race.reward == "top1" else 5))[checks - 1]
            best = (self.images - errors) / self.images - 1.0
        lost = checks[best < race.to_beat]
        return int(lost[0]) if len(lost) else self.images


class Judge:
    """Knows the right answers, and those of the original network."""

    def __init__(self, labels: NDArray[np.integer], reference_logits: NDArray[np.floating] | None = None) -> None:
        """Takes labels (N,) and the original's logits (N, classes); without them divergences are 0."""
        labels = np.asarray(labels)
        self.order = np.arange(len(labels))  # of visits
        self._reference = None
        if reference_logits is not None:
            reference = log_softmax(reference_logits.astype(np.float64), axis=1)
            self.order = _visits(_margins(reference, labels))
            self._reference = reference[self.order]
        self._labels = labels[self.order]

    def outcomes(self, answers: Iterable[NDArray[np.floating]], race: Race | None = None) -> Outcomes:
        """Takes batches of logits in the order of visits, until `race` is decided or all have answered."""
        ranks, divergences = [np.zeros(0, np.int64)], [np.zeros(0)]
        seen = Outcomes(ranks[0], divergences[0], len(self._labels))
        for answer in answers:
            logits = _finite(answer)
            here = slice(len(seen.ranks), len(seen.ranks) + len(logits))
            ranks.append(_ranks(logits, self._labels[here]))
            divergences.append(self._divergences(logits, here))
            seen = Outcomes(np.concatenate(ranks), np.concatenate(divergences), len(self._labels))
            if race is not None and seen.score(race) is not None:
                break
        return seen

    def _divergences(self, logits: NDArray[np.float64], here: slice) -> NDArray[np.float64]:
        if self._reference is None:
            return np.zeros(len(logits))
        return divergences(self._reference[here], logits)


def divergences(reference: NDArray[np.float64], logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """KL(reference || softmax(logits)) of every row, nats, (N,). `reference` is log-probabilities (N, classes)."""
    sums: NDArray[np.float64] = np.sum(np.exp(reference) * (reference - log_softmax(logits, axis=1)), axis=1)
    return np.maximum(sums, 0.0)  # rounding can make it less


def _finite(logits: NDArray[np.floating]) -> NDArray[np.float64]:
    return np.nan_to_num(logits.astype(np.float64), nan=-_EXTREME, posinf=_EXTREME, neginf=-_EXTREME)


def _ranks(logits: NDArray[np.float64], labels: NDArray[np.integer]) -> NDArray[np.int64]:
    """How many classes stand before the right one, (N,): among equal logits the first class wins, as in argmax."""
    right = logits[np.arange(len(labels)), labels][:, None]
    earlier = np.arange(logits.shape[1]) < labels[:, None]
    ranks: NDArray[np.int64] = np.sum((logits > right) | ((logits == right) & earlier), axis=1)
    return ranks


def _margins(logits: NDArray[np.float64], labels: NDArray[np.integer]) -> NDArray[np.float64]:
    """How far the right class is ahead of the best other one, (N,)."""
    others = logits.copy()
    others[np.arange(len(labels)), labels] = -np.inf
    margins: NDArray[np.float64] = logits[np.arange(len(labels)), labels] - others.max(axis=1)
    return margins


def _visits(margins: NDArray[np.float64]) -> NDArray[np.int64]:
    """The images in the order of visits: the smallest margins first, but the fair sample at every _FAIR-th place."""
    hardest = np.argsort(margins, kind="stable")
    fair = hardest[::_FAIR]
    order = np.empty_like(hardest)
    is_fair = np.arange(len(order)) % _FAIR == 0
    order[is_fair], order[~is_fair] = fair[_spread(len(fair))], hardest[~is_fair]
    return order


def _spread(count: int) -> NDArray[np.int64]:
    """0 .. count - 1 such that every beginning is spread evenly: in the order of van der Corput's sequence.

    >>> _spread(8).tolist()
    [0, 4, 2, 6, 1, 5, 3, 7]
    """
    numbers, bits = np.arange(count), max(count - 1, 1).bit_length()
    reversed_bits = sum((numbers >> bit & 1) << (bits - 1 - bit) for bit in range(bits))
    return np.argsort(np.argsort(reversed_bits))
