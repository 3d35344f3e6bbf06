from __future__ import annotations

import subprocess
import sys

import pytest

from amc_mobile.cli.open_device import check_device, check_device_name, open_device
from amc_mobile.device import gpu
from amc_mobile.errors import DeviceError
from amc_mobile.sections.device import DeviceConfig


@pytest.mark.parametrize("name", ["host", "cuda", "cuda:0", "cuda:12"])
def test_known_names(name: str):
    check_device_name(name)


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        *[(name, "cuda") for name in ("gpu", "GPU", "nvidia", "Cuda", "cuda0", "gpu:1", "cuda:", "cuda:x")],
        *[(name, "host") for name in ("hots", "cpu", "CPU", "localhost")],
    ],
)
def test_near_misses(name: str, meant: str):
    with pytest.raises(DeviceError, match=f"did you mean --device {meant}\\?$"):
        check_device_name(name)


@pytest.mark.parametrize(
    ("name", "precision", "known"),
    [("host", "fp16", "fp32 or int8"), ("host", "bf16", "int8"), ("cuda:1", "int8", "fp32 or fp16 or bf16")],
)
def test_a_precision_that_a_device_has_not(name: str, precision: str, known: str):
    with pytest.raises(DeviceError, match=f"{name} is measured in .*{known}, not in {precision}"):
        check_device(DeviceConfig(name=name, precision=precision))


def test_the_host_is_opened_as_configured():
    device = open_device(DeviceConfig(threads=2, optimisation="basic", precision="int8", batch=3))
    info = device.info()
    assert (info.threads, info.optimisation, info.precision, info.batch) == (2, "basic", "int8", 3)


def test_a_gpu_is_opened_as_configured(monkeypatch: pytest.MonkeyPatch):
    opened = []
    monkeypatch.setattr(gpu, "TorchDevice", lambda *names, **options: opened.append((names, options)))
    open_device(DeviceConfig(name="cuda:1", precision="bf16", batch=8))
    assert opened == [(("cuda:1",), {"precision": "bf16", "batch": 8})]


def test_names_are_checked_without_torch():
    code = (
        "import sys; from amc_mobile.cli.open_device import check_device; "
        "from amc_mobile.sections.device import DeviceConfig; "
        "check_device(DeviceConfig(name='cuda', precision='fp16')); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
