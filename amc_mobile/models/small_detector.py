"""SSDLite on MobileNet-V3-Small: a detector small enough to be trained on a CPU in minutes."""

from __future__ import annotations

from functools import partial

from torch import nn
from torchvision.models import mobilenet_v3_small
from torchvision.models.detection.anchor_utils import DefaultBoxGenerator
from torchvision.models.detection.ssd import SSD
from torchvision.models.detection.ssdlite import SSDLiteFeatureExtractorMobileNet, SSDLiteHead

_MAPS = 6
_C4 = 9  # of the backbone's blocks: the first one at a 32nd of the image's size


def ssdlite_mobilenet_v3_small(num_classes: int, size: int) -> nn.Module:
    """A new detector for square images of `size` pixels; `num_classes` counts the background too.

    As torchvision's SSDLite320 on MobileNet-V3-Large (Howard et al., ICCV 2019, section 6.3), with the smaller
    backbone, half the channels in the extra layers, and boxes of three shapes at each place.
    """
    norm = partial(nn.BatchNorm2d, eps=1e-3)
    blocks = mobilenet_v3_small(weights=None, norm_layer=norm, reduced_tail=True).features
    backbone = SSDLiteFeatureExtractorMobileNet(blocks, _C4, norm, width_mult=0.5)
    widths = [blocks[_C4].block[0].out_channels, blocks[-1].out_channels]
    widths += [block[-1].out_channels for block in backbone.extra]
    boxes = DefaultBoxGenerator([[2] for _ in range(_MAPS)], min_ratio=0.2, max_ratio=0.95)
    head = SSDLiteHead(widths, boxes.num_anchors_per_location(), num_classes, norm)
    detector: nn.Module = SSD(
        backbone,
        boxes,
        (size, size),
        num_classes,
        head=head,
        image_mean=[0.5] * 3,
        image_std=[0.5] * 3,
        score_thresh=0.01,
        nms_thresh=0.45,
        detections_per_img=100,
        topk_candidates=100,
    )
    return detector
