"""The table of functions in runner.c against the real header of ONNX Runtime: every place, and every signature.

Debian ships the header of one version a release. Older and newer libraries are run besides.
"""

from __future__ import annotations

import platform
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from android_bench.runner.compile import SOURCE
from android_bench.runner.manifest import Step
from tests.android_bench.runner.running import Program, convolution, saved
from tests.phone.packages import Suite, Unavailable

CHECK = f"""
#include <onnxruntime_c_api.h>
#define main runner_main
#include "{SOURCE}"
#define CHECK(slot, name, result, parameters) \\
    _Static_assert(offsetof(OrtApi, name) == (slot) * sizeof(void *), #name " has another place"); \\
    _Static_assert(__builtin_types_compatible_p(__typeof__(((OrtApi *)0)->name), __typeof__(ort.name)), #name);
SLOTS(CHECK)
_Static_assert(offsetof(OrtApiBase, GetApi) == offsetof(struct ApiBase, GetApi), "");
_Static_assert(offsetof(OrtApiBase, GetVersionString) == offsetof(struct ApiBase, GetVersionString), "");
_Static_assert(SEQUENTIAL == ORT_SEQUENTIAL && LOG_ERROR == ORT_LOGGING_LEVEL_ERROR, "");
_Static_assert(ARENA_ALLOCATOR == OrtArenaAllocator && MEMORY_DEFAULT == OrtMemTypeDefault, "");
_Static_assert(FLOAT32 == ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT && FLOAT16 == ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16, "");
_Static_assert(FLOAT64 == ONNX_TENSOR_ELEMENT_DATA_TYPE_DOUBLE && ORT_ENABLE_ALL == 99, "");
"""


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("gcc") is None, reason="there is no gcc")
@pytest.mark.parametrize(("suite", "version"), [("trixie", "1.21"), ("sid", "")])
def test_every_slot_is_where_the_header_has_it(suite, version, tmp_path: Path):
    place = Suite(suite, tmp_path / suite)
    try:
        place.require(["libonnxruntime-dev"])
    except Unavailable as reason:
        pytest.skip(f"no header of Debian {suite}: {reason}")
    (header,) = place.root.rglob("onnxruntime_c_api.h")
    assert place.version("libonnxruntime-dev").startswith(version)
    (tmp_path / "check.c").write_text(CHECK, encoding="utf-8")
    command = ["gcc", "-std=c11", "-D_GNU_SOURCE", "-fsyntax-only", f"-I{header.parent}", "check.c"]
    subprocess.run(command, cwd=tmp_path, check=True)
    for right, wrong in (("SLOT(7,", "SLOT(8,"), ("SLOT(25, SetInterOpNumThreads", "SLOT(24, SetInterOpNumThreads")):
        changed = SOURCE.read_text(encoding="utf-8").replace(right, wrong, 1)
        (tmp_path / "changed.c").write_text(changed, encoding="utf-8")
        text = CHECK.replace(str(SOURCE), str(tmp_path / "changed.c"))
        (tmp_path / "check.c").write_text(text, encoding="utf-8")
        ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert "has another place" in ended.stderr


@pytest.mark.slow
@pytest.mark.parametrize("version", ["1.20.1", "1.23.2"])
def test_other_versions_of_the_library(version, program: Program, tmp_path: Path):
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    ended = subprocess.run(
        [*command, f"onnxruntime=={version}"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    if ended.returncode:
        reason = re.sub(r"\w+://\S+", "the index", (ended.stderr.strip().splitlines() or ["pip failed"])[-1])
        pytest.skip(f"no onnxruntime {version} for Python {platform.python_version()}: {reason}")
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as opened:
        (name,) = (name for name in opened.namelist() if "capi/libonnxruntime.so" in name)
        library = Path(opened.extract(name, tmp_path))
    steps = (Step(0, "time", 2, 3), Step(0, "profile", 0, 2, optimised=True), Step(0, "outputs", 0, 1))
    older = Program(program.runner, library)
    ran = older.run(older.manifest(saved(convolution(), tmp_path / "m.onnx"), steps=steps), tmp_path)
    assert ran.hello().onnxruntime == version
    assert [timed.step for timed in ran.timed()] == [0, 1, 2]
