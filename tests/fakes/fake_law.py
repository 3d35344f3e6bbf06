"""What a network takes by the law of tests/fakes/analytic.py, kept by the file's content: onnx is slow to import."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Law:
    """What every node of a network takes, by the law: name, operator, microseconds."""

    nodes: tuple[tuple[str, str, float], ...]

    @classmethod
    def of(cls, model: Path, cache: Path) -> Law:
        """By the model's bytes. Kept, since onnx takes long to import. Raises: ValueError for what is no model."""
        data = model.read_bytes()
        kept = cache / f"law-{hashlib.sha256(data).hexdigest()}.json"
        if not kept.exists():
            beside = kept.with_suffix(f".{os.getpid()}")
            beside.write_text(json.dumps(_computed(data)))
            beside.replace(kept)
        return cls(tuple((name, kind, us) for name, kind, us in json.loads(kept.read_text())))

    @property
    def run_us(self) -> float:
        from tests.fakes.analytic import OVERHEAD_US

        return OVERHEAD_US + sum(us for _, _, us in self.nodes)


def _computed(data: bytes) -> list[tuple[str, str, float]]:
    from google.protobuf.message import DecodeError

    from tests.fakes.analytic import AnalyticDevice

    try:
        return [(node.name, node.op_type, node.round_us[0]) for node in AnalyticDevice().node_times(data)]
    except (DecodeError, KeyError, IndexError) as error:
        raise ValueError(f"no model that the law knows: {error}") from error
