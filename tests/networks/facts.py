"""Every network that is tested: its name, the image size (none: its own), prunable groups, their channels."""

from __future__ import annotations

FACTS: tuple[tuple[str, int | None, int, int], ...] = (
    ("mobilenet_v1", 64, 14, 5984),
    ("mobilenet_v2", 64, 25, 9128),
    ("mobilenet_v3_small", 64, 27, 4872),
    ("mobilenet_v3_large", 64, 30, 8696),
    ("resnet18", 64, 12, 2880),
    ("resnet50", 64, 37, 11456),
    ("resnext50_32x4d", 64, 37, 4376),
    ("resnet20", None, 12, 400),
    ("resnet56", None, 30, 1072),
    ("plain20", None, 19, 688),
    ("vgg_small", None, 6, 448),
    ("vgg16", None, 15, 12416),
    ("vgg16_bn", None, 15, 12416),
    ("efficientnet_b0", 64, 40, 11404),
    ("mnasnet1_0", 64, 25, 10024),
    ("densenet121", 64, 120, 10240),
    ("googlenet", 64, 57, 7280),
    ("inception_v3", 96, 94, 17216),
    ("squeezenet1_0", 64, 25, 2976),
    ("shufflenet_v2_x1_0", 64, 20, 3171),
    ("regnet_y_400mf", 64, 53, 2048),
    ("convnext_tiny", 64, 18, 26496),
    ("vit_b_16", None, 24, 37008),
    ("swin_t", 64, 24, 17802),
    ("tests.networks.user:Residuals", None, 3, 42),
    ("tests.networks.user:Concatenation", None, 4, 36),
    ("tests.networks.user:SqueezeExcitation", None, 4, 34),
    ("tests.networks.user:GroupedBottlenecks", None, 6, 40),
    ("tests.networks.user:GroupedShuffles", None, 4, 20),
    ("tests.networks.user:ChunkedShuffles", None, 5, 49),
    ("tests.networks.user:SharedWeights", None, 3, 29),
    ("tests.networks.user:Flattened", None, 3, 42),
    ("tests.networks.user:PaddedShortcuts", None, 2, 24),
    ("tests.networks.user:Upsampled", None, 4, 46),
    ("tests.networks.user:Gated", None, 3, 29),
    ("tests.networks.user:Normalised", None, 2, 28),
    ("tests.networks.user:Attentive", None, 2, 32),
    ("tests.networks.user:Stubborn", None, 2, 26),
    ("tests.networks.user:Unknown", None, 3, 25),
)

QUICK = tuple(
    f"tests.networks.user:{name}"
    for name in ("GroupedShuffles", "ChunkedShuffles", "SharedWeights", "PaddedShortcuts", "Attentive")
)
