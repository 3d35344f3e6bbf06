"""Does a pruned backbone keep its advantage on other images? ResNet-20, pruned on CIFAR-10, on Fashion-MNIST.

    python benchmarks/transfer.py --data DIR [--run FOLDER] [--sizes 1000x10,10000x2] [--seeds 3]

The run (made here, or given by --run) prunes ResNet-20 to half of its MACs and fine-tunes it on CIFAR-10. Then
`amc transfer` gives its backbone a new classifier and trains it on few and on many images of Fashion-MNIST (enlarged to
32x32, grey in three channels), beside the original backbone, the uniformly pruned one of the same budget with the same
repair and the same fine-tuning on CIFAR-10, and the pruned shape from random weights: the same settings, seeds and
images for all (He et al. 2018, section 4.3, where pruned backbones are transferred to detection). --sizes are training
images x epochs. The learning rate, the default of `amc transfer`, was chosen among three by one training of the pruned
network, judged on 1,000 of the test images.

Everything lies in --work and is resumed from there; the raw result is benchmarks/raw/transfer.json.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from provenance import provenance

from amc_mobile.cli.console import print_table
from amc_mobile.cli.pipeline import Pipeline, open_run
from amc_mobile.cli.transfer import open_folder, settings_of, transfer
from amc_mobile.cli.verbs_stage import open_pipeline
from amc_mobile.config import RunConfig
from amc_mobile.report.transfer import read_transfer, sentence, transfer_table
from amc_mobile.report.wording import plain_ascii
from amc_mobile.runs import plain, read_json, write_json
from amc_mobile.transfers import TransferResult

HERE = Path(__file__).parent
AGAINST = ["original", "uniform", "scratch"]


def pruned_run(arguments: argparse.Namespace) -> Pipeline:
    """The run that the backbone comes from: as given, or made now."""
    if arguments.run is not None:
        pipeline = open_pipeline(arguments.run)
        pipeline.require("export")
        return pipeline
    data = arguments.data.resolve()
    config = RunConfig.model_validate(
        {
            "out": arguments.work / "run",
            "model": {"name": "resnet20", "weights": data / "cifar10_resnet20_jpegft.pt"},
            "data": {
                "name": str(data / "cifar10_train50k_jpeg.npz"),
                "test": str(data / "cifar10_test.npz"),
                "search_images": arguments.search_images,
                "calibration_images": 500,
                "train_images": arguments.source_images,
            },
            "budget": {"macs": 0.5},
            "search": {"episodes": arguments.episodes, "reward": "kl", "round_to": 4},
            "finetune": {"epochs": arguments.source_epochs, "learning_rate": 0.01},
        }
    )
    pipeline = Pipeline(open_run(config, update=True), config)
    pipeline.run(("train", "graph", "calibrate", "search", "prune", "finetune", "export", "evaluate"))
    return pipeline


def transferred(pipeline: Pipeline, images: int, epochs: int, arguments: argparse.Namespace) -> TransferResult:
    """The run's backbone on so many images of Fashion-MNIST."""
    data = str(arguments.data.resolve() / "fashion_mnist_20k.npz")
    given = {
        "out": arguments.work / f"fashion-{images}",
        "data.train_images": images,
        "data.test_images": arguments.test_images,
        "finetune.epochs": epochs,
        "finetune.learning_rate": arguments.learning_rate,
        "against": AGAINST,
        "seeds": arguments.seeds,
    }
    config = settings_of(pipeline, data, None, None, given)
    folder = open_folder(config, update=True, fresh=False)
    return read_transfer(transfer(pipeline, config, folder, bench=not arguments.no_bench, force=False))


def row(found: TransferResult) -> dict[str, Any]:
    """The raw facts of one size, without this machine's paths."""
    content: dict[str, Any] = plain(found)
    hidden = {"run", "data"}
    contenders = [{key: value for key, value in each.items() if key != "folder"} for each in content["contenders"]]
    return {key: value for key, value in content.items() if key not in hidden} | {"contenders": contenders}


def main() -> None:
    """Does what is not done yet, and writes the raw result after every size."""
    arguments = _arguments()
    pipeline = pruned_run(arguments)
    accuracy = pipeline.folder.accuracy
    source = read_json(accuracy) if accuracy.is_file() else None
    rows: list[dict[str, Any]] = []
    found: dict[str, Any] = {}
    for size in arguments.sizes.split(","):
        images, epochs = map(int, size.split("x"))
        result = transferred(pipeline, images, epochs, arguments)
        rows.append(row(result))
        found = {**provenance(), "source": source, "rows": rows}
        write_json(arguments.raw, found)
        if not arguments.json:
            print(f"\n{images} training images, {epochs} epochs")
            print_table(transfer_table(result))
            print(plain_ascii(sentence(result)))
    if arguments.json:
        print(json.dumps(found))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with weights and images")
    parser.add_argument("--run", type=Path, help="a finished run of a network for 32x32 images; default: made here")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    parser.add_argument("--sizes", default="1000x10,10000x2", help="images x epochs; default: %(default)s")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--learning-rate", type=float, default=0.05)
    parser.add_argument("--test-images", type=int, default=10_000)
    parser.add_argument("--search-images", type=int, default=1000, help="of the run")
    parser.add_argument("--episodes", type=int, default=120, help="of the run")
    parser.add_argument("--source-images", type=int, default=20_000, help="of the run's fine-tuning")
    parser.add_argument("--source-epochs", type=int, default=1, help="of the run's fine-tuning")
    parser.add_argument("--no-bench", action="store_true", help="do not time the networks")
    parser.add_argument("--work", type=Path, default=Path("runs/transfer"))
    parser.add_argument("--raw", type=Path, default=HERE / "raw" / "transfer.json")
    return parser.parse_args()


if __name__ == "__main__":
    main()
