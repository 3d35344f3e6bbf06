"""What every layer takes inside the original and inside the pruned network, from the runtime's own profiler."""

from __future__ import annotations

import statistics

from amc_mobile.measurements import LayerTime, Measurement
from amc_mobile.profile.variants import Variants


def layer_times(variants: Variants, original: Measurement, pruned: Measurement) -> tuple[LayerTime, ...]:
    """One for each layer that the runtime tells of, in the order of execution, and one for all that is no layer's.

    What a network spends outside its layers is known only where all its layers are. Empty without node times, or where
    no node can be traced back to a layer.
    """
    before, after = _by_layer(variants, original), _by_layer(variants, pruned)
    names = [layer.name for layer in variants.traced.network.layers]
    found = [LayerTime(name, before.get(name), after.get(name)) for name in names if name in before or name in after]
    return (*found, LayerTime("", before.get(""), after.get(""))) if found else ()


def _by_layer(variants: Variants, measured: Measurement) -> dict[str, float]:
    """Times of the layers, µs; that of everything else under the empty name."""
    rows = variants.rows(measured.nodes)
    if not any(not key.node for key in rows):
        return {}
    times = {key.layer: statistics.median(values) for key, values in rows.items() if not key.node}
    others = [values for key, values in rows.items() if key.node]
    return times | {"": statistics.median(map(sum, zip(*others, strict=True))) if others else 0.0}
