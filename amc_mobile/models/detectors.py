"""Torchvision's detectors as networks of one graph: a batch of images in, one tensor of raw answers out.

Each class is torchvision's own detector, with the same weights under the same names: called with a list of images it
detects, or in training mode answers its losses. Called with a tensor, which is how it is exported, it answers what its
heads say, before anything is decoded; `detections` decodes that by torchvision's own code. Boxes are (left, top, right,
bottom) in pixels of the network's input.

Between two networks' raw answers stands a divergence. A class says how the heads' numbers are read: as probabilities
per anchor, as offsets of boxes, as feature maps that another head reads.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import nn
from torch.nn import functional
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.rpn import concat_box_prediction_layers
from torchvision.models.detection.ssd import SSD
from torchvision.ops import box_iou

from amc_mobile.errors import ConfigError

Detection = dict[str, torch.Tensor]  # boxes (K, 4), scores (K,), labels (K,): 1 is the first class, 0 the background

_STRIDE = 32  # torchvision pads the images of a Faster R-CNN to multiples of it
_OFFSETS = 0.1  # nats that a squared error of one, summed over the four offsets of a box, counts
_FEATURES = 1.0  # nats that a relative squared error of one in the feature maps counts


class Detector(Protocol):
    """What the rest of the program asks of a detector, beside what torch's modules have."""

    @property
    def size(self) -> int:
        """Height and width of the network's input."""
        ...

    def detections(self, answers: torch.Tensor) -> list[Detection]:
        """What raw answers (N, ...) say: for every image its boxes, the most certain ones first."""
        ...

    def divergences(self, reference: torch.Tensor, answers: torch.Tensor) -> torch.Tensor:
        """How far answers are from those of a reference network, nats, (N,)."""
        ...


class _Whole(nn.Module):
    """The forward of both kinds: a tensor is answered raw, a list as torchvision answers it."""

    transform: Any
    backbone: Any

    def forward(self, images: Any, targets: Any = None) -> Any:
        """Raw answers to images (N, 3, H, W), normalised; with targets, torchvision's losses by name.

        For a list of images: torchvision's own answer.
        """
        if not isinstance(images, torch.Tensor):
            return super().forward(images, targets)
        return self.answers(images) if targets is None else self.losses(images, targets)

    @abstractmethod
    def answers(self, images: torch.Tensor) -> torch.Tensor:
        """What the heads say, in one tensor."""

    @abstractmethod
    def losses(self, images: torch.Tensor, targets: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
        """Torchvision's losses; targets have boxes in pixels of these images, and labels from 1."""

    def _sized(self, images: torch.Tensor) -> ImageList:
        return ImageList(images, [(self.size, self.size)] * len(images))

    @property
    def size(self) -> int:
        """Height and width of the network's input."""
        return int(self.transform.min_size[-1])

    def _blank(self, count: int) -> ImageList:
        """So many images of which only the shape is asked."""
        return ImageList(torch.zeros(1, 3, self.size, self.size).expand(count, -1, -1, -1), [(self.size,) * 2] * count)

    def map_shapes(self) -> dict[str, torch.Size]:
        """(C, H, W) of every feature map that the heads read, by torchvision's name for it."""
        if self.__dict__.get("_maps") is None:
            modes = self.training
            self.eval()
            with torch.no_grad():
                maps = self.backbone(torch.zeros(1, 3, self.size, self.size))
            self.train(modes)
            self.__dict__["_maps"] = {name: one.shape[1:] for name, one in maps.items()}
        found: dict[str, torch.Size] = self.__dict__["_maps"]
        return found


class OnePass(_Whole, SSD):  # type: ignore[misc]
    """SSD and SSDLite. Raw answers are (N, anchors, classes + 1 + 4): logits, the background's first, then offsets."""

    head: Any
    anchor_generator: Any
    proposal_matcher: Any
    compute_loss: Any
    postprocess_detections: Any

    def answers(self, images: torch.Tensor) -> torch.Tensor:
        """See the class."""
        heads = self.head(list(self.backbone(images).values()))
        return torch.cat([heads["cls_logits"], heads["bbox_regression"]], dim=2)

    def losses(self, images: torch.Tensor, targets: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
        """See _Whole."""
        maps = list(self.backbone(images).values())
        heads, anchors = self.head(maps), self.anchor_generator(self._sized(images), maps)
        matched = [
            self.proposal_matcher(box_iou(target["boxes"], boxes))
            if len(target["boxes"])
            else torch.full((len(boxes),), -1, device=boxes.device)
            for target, boxes in zip(targets, anchors, strict=True)
        ]
        found: dict[str, torch.Tensor] = self.compute_loss(targets, heads, anchors, matched)
        return found

    def detections(self, answers: torch.Tensor) -> list[Detection]:
        """See Detector."""
        images = self._blank(len(answers))
        blank = [torch.zeros(1, *shape) for shape in self.map_shapes().values()]
        anchors = self.anchor_generator(images, blank)
        heads = {"cls_logits": answers[..., :-4], "bbox_regression": answers[..., -4:]}
        found: list[Detection] = self.postprocess_detections(heads, anchors, images.image_sizes)
        return found

    def divergences(self, reference: torch.Tensor, answers: torch.Tensor) -> torch.Tensor:
        """KL(reference || answers) of every anchor's classes, and the squared error of its offsets.

        Nearly all anchors are background, and agree about it. One counts by the probability that it shows anything, by
        whichever network sees more there; the sum is shared out among what the reference sees.
        """
        before, after = (functional.log_softmax(each[..., :-4].double(), dim=-1) for each in (reference, answers))
        surprise = (before.exp() * (before - after)).sum(dim=-1).clamp_min(0.0)
        seen = (1.0 - before[..., 0].exp(), 1.0 - after[..., 0].exp())
        return _shared_out(surprise, _moved(reference[..., -4:], answers[..., -4:]), *seen)


class TwoPass(_Whole, FasterRCNN):  # type: ignore[misc]
    """Faster R-CNN up to the proposals. Raw answers are (N, all of it): feature maps, objectness, offsets, flattened.

    The heads of the second pass (RoI heads) read the feature maps and stay as they are: `detections` runs them.
    """

    rpn: Any
    roi_heads: Any

    def answers(self, images: torch.Tensor) -> torch.Tensor:
        """See the class."""
        maps = list(self.backbone(images).values())
        objectness, offsets = self.rpn.head(maps)
        return torch.cat([each.flatten(1) for each in (*maps, *objectness, *offsets)], dim=1)

    def losses(self, images: torch.Tensor, targets: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
        """See _Whole."""
        sized, maps = self._sized(images), self.backbone(images)
        proposals, first = self.rpn(sized, maps, targets)
        _, second = self.roi_heads(maps, proposals, sized.image_sizes, targets)
        return {**first, **second}

    def detections(self, answers: torch.Tensor) -> list[Detection]:
        """See Detector."""
        images, (maps, objectness, offsets) = self._blank(len(answers)), self._parts(answers)
        anchors = self.rpn.anchor_generator(images, maps)
        per_level = [each[0].numel() for each in objectness]
        scores, deltas = concat_box_prediction_layers(objectness, offsets)
        proposals = self.rpn.box_coder.decode(deltas, anchors).view(len(answers), -1, 4)
        boxes, _ = self.rpn.filter_proposals(proposals, scores, images.image_sizes, per_level)
        named = OrderedDict(zip(self.map_shapes(), maps, strict=True))
        found: list[Detection] = self.roi_heads(named, boxes, images.image_sizes)[0]
        return found

    def divergences(self, reference: torch.Tensor, answers: torch.Tensor) -> torch.Tensor:
        """The divergence of every anchor's objectness and offsets, and the relative squared error of the feature maps.

        Anchors count as in OnePass.
        """
        (maps, objectness, offsets), (own_maps, own_objectness, own_offsets) = map(self._parts, (reference, answers))
        lost = torch.stack([_relative(old, new) for old, new in zip(maps, own_maps, strict=True)]).mean(dim=0)
        before, after = (_by_anchor(each, 1)[..., 0].double() for each in (objectness, own_objectness))
        surprise = functional.binary_cross_entropy_with_logits(after, before.sigmoid(), reduction="none")
        surprise = surprise - functional.binary_cross_entropy_with_logits(before, before.sigmoid(), reduction="none")
        moved = _moved(_by_anchor(offsets, 4), _by_anchor(own_offsets, 4))
        seen = (before.sigmoid(), after.sigmoid())
        return _shared_out(surprise.clamp_min(0.0), moved, *seen) + _FEATURES * lost

    def _parts(self, answers: torch.Tensor) -> tuple[list[torch.Tensor], list[torch.Tensor], list[torch.Tensor]]:
        """Feature maps, objectness and offsets of every level, from flat answers."""
        shapes = list(self.map_shapes().values())
        each = self.rpn.anchor_generator.num_anchors_per_location()
        wide = [*shapes, *((n, *shape[1:]) for n, shape in zip(each, shapes, strict=True))]
        wide += [(4 * n, *shape[1:]) for n, shape in zip(each, shapes, strict=True)]
        flat = torch.split(answers, [math.prod(shape) for shape in wide], dim=1)
        parts = [piece.reshape(len(answers), *shape) for piece, shape in zip(flat, wide, strict=True)]
        levels = len(shapes)
        return parts[:levels], parts[levels : 2 * levels], parts[2 * levels :]


def is_detector(module: nn.Module) -> bool:
    """Whether it is one of the kinds that `adopt` takes."""
    return isinstance(module, (SSD, FasterRCNN))


def own_size(detector: nn.Module) -> int:
    """The height and width of the images that a detector is made for."""
    transform: Any = detector.transform
    return int(transform.fixed_size[0] if transform.fixed_size is not None else transform.min_size[-1])


def own_classes(detector: nn.Module) -> int:
    """How many classes a detector tells apart, without the background."""
    part: Any = detector
    if isinstance(detector, SSD):
        return int(part.head.classification_head.num_columns) - 1
    return int(part.roi_heads.box_predictor.cls_score.out_features) - 1


def adopt(detector: nn.Module, size: int) -> nn.Module:
    """The same detector as one of the classes above, for square images of `size` pixels. Raises: ConfigError.

    Called with a list of images of other shapes it squeezes them into the square, as they are trained and tested with.
    """
    kind = OnePass if isinstance(detector, SSD) else TwoPass if isinstance(detector, FasterRCNN) else None
    if kind is None:
        raise ConfigError(
            f"{type(detector).__name__} is no SSD and no Faster R-CNN of torchvision; a detector must be one of them"
        )
    if kind is TwoPass and size % _STRIDE:
        raise ConfigError(f"a Faster R-CNN reads multiples of {_STRIDE} pixels, not {size}; change model.image_size")
    own = kind.__new__(kind)
    own.__dict__.update(detector.__dict__)
    own.transform.min_size, own.transform.max_size = (size,), size
    own.transform.fixed_size = (size, size)  # else a Faster R-CNN would keep the shape of images that it is called with
    return own


def _shared_out(
    surprise: torch.Tensor, moved: torch.Tensor, seen: torch.Tensor, also_seen: torch.Tensor
) -> torch.Tensor:
    """The sum over the anchors, each weighted by what is seen there, per anchor that the reference sees; (N,)."""
    weight = torch.maximum(seen, also_seen)
    return (weight * (surprise + _OFFSETS * moved)).sum(dim=1) / seen.sum(dim=1).clamp_min(1.0)


def _moved(before: torch.Tensor, after: torch.Tensor) -> torch.Tensor:
    """Squared errors of offsets (N, anchors, 4), summed over the four: (N, anchors)."""
    return (before - after).double().square().sum(dim=-1)


def _relative(before: torch.Tensor, after: torch.Tensor) -> torch.Tensor:
    """Squared error of a feature map relative to its own square, (N,)."""
    error, own = (each.double().square().flatten(1).mean(dim=1) for each in (before - after, before))
    return error / own.clamp_min(1e-12)


def _by_anchor(levels: Sequence[torch.Tensor], values: int) -> torch.Tensor:
    """(N, anchors of all levels, values)."""
    flat = [
        each.reshape(len(each), -1, values, *each.shape[2:]).permute(0, 3, 4, 1, 2).reshape(len(each), -1, values)
        for each in levels
    ]
    return torch.cat(flat, dim=1)
