"""What one start of the runner does: steps in their order, as many runs as were asked for, and what each leaves."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import onnx
import pytest

from amc_mobile.device.node_times import node_times, original_outputs, parse_profile
from android_bench.runner.events import Begun, Failed, Timed
from android_bench.runner.manifest import Model, Step
from tests.android_bench.runner.running import Program, convolution, saved


@pytest.fixture
def small(tmp_path: Path) -> Model:
    return saved(convolution(), tmp_path / "small.onnx")


def test_the_greeting_tells_what_it_is(program: Program, small: Model, tmp_path: Path):
    hello = program.run(program.manifest(small, steps=(), clock="thread"), tmp_path).hello()
    assert hello.abi == "x86_64"
    assert hello.onnxruntime.count(".") == 2
    assert "CPUExecutionProvider" in hello.providers
    assert hello.cores == tuple(sorted(os.sched_getaffinity(0)))
    assert hello.clock == "thread"


@pytest.mark.parametrize("clock", ["wall", "thread"])
def test_steps_come_in_their_order_with_their_runs(clock, program: Program, small: Model, tmp_path: Path):
    other = saved(convolution(5), tmp_path / "other.onnx")
    asked = [(1, 2, 3), (0, 0, 1), (1, 1, 20), (0, 5, 5)]
    steps = tuple(Step(model, "time", warmups, runs) for model, warmups, runs in asked)
    ran = program.run(program.manifest(small, other, steps=steps, clock=clock), tmp_path)
    assert [event.step for event in ran.events if isinstance(event, Begun)] == [0, 1, 2, 3]
    for number, (timed, (_, warmups, runs)) in enumerate(zip(ran.timed(), asked, strict=True)):
        assert timed.step == number
        assert (len(timed.warmups_us), len(timed.values_us)) == (warmups, runs)
        assert min(*timed.values_us, timed.load_us) > 0
        assert timed.first_run_us >= (timed.warmups_us or timed.values_us)[0] * (clock == "wall")
        assert (timed.profile, timed.optimised, timed.outputs) == (None, None, ())
    assert {path.name for path in tmp_path.iterdir()} == {"small.onnx", "other.onnx", "manifest.txt"}


def test_at_least_so_long(program: Program, small: Model, tmp_path: Path):
    (timed,) = program.run(program.manifest(small, steps=(Step(0, "time", 0, 1, 0.05),)), tmp_path).timed()
    assert sum(timed.values_us) <= 0.05e6 + 2 * max(timed.values_us)
    assert len(timed.values_us) > 1


@pytest.mark.parametrize(("runs", "least_s"), [(1000, 0.0), (3, 10.0)])
def test_fifteen_runs_when_there_is_no_time(runs, least_s, program: Program, small: Model, tmp_path: Path):
    steps = (Step(0, "time", 1, runs, least_s, 0.0),)
    (timed,) = program.run(program.manifest(small, steps=steps), tmp_path).timed()
    assert len(timed.values_us) == 15


def test_as_few_runs_as_are_asked_for_and_two_warmups_when_there_is_no_time(program, small, tmp_path):
    steps = (Step(0, "time", 30, 100, 0.0, 0.0, fewest_runs=4), Step(0, "time", 30, 100, 0.0, 60.0, fewest_runs=4))
    hurried, patient = program.run(program.manifest(small, steps=steps), tmp_path).timed()
    assert (len(hurried.warmups_us), len(hurried.values_us)) == (2, 4)
    assert (len(patient.warmups_us), len(patient.values_us)) == (30, 100)


def test_fewer_runs_are_not_made_more_by_the_limit(program: Program, small: Model, tmp_path: Path):
    (timed,) = program.run(program.manifest(small, steps=(Step(0, "time", 0, 4, 0.0, 0.0),)), tmp_path).timed()
    assert len(timed.values_us) == 4


def test_cold_runs_find_nothing_in_the_caches(program: Program, small: Model, tmp_path: Path):
    steps = (Step(0, "time", 2, 5), Step(0, "time", 2, 5, cold=True))
    _warm, cold = program.run(program.manifest(small, steps=steps), tmp_path).timed()
    assert len(cold.values_us) == 5
    assert cold.peak_bytes is None  # the memory that was walked over would be the peak


def test_the_peak_of_memory_is_each_sessions_own(program: Program, tmp_path: Path):
    small, large = saved(convolution(4), tmp_path / "s.onnx"), saved(convolution(512), tmp_path / "l.onnx")
    steps = tuple(Step(model, "time", 1, 1) for model in (0, 1, 0))
    before, between, after = program.run(program.manifest(small, large, steps=steps), tmp_path).timed()
    if before.peak_bytes is None:
        pytest.skip("this kernel does not tell the peak of memory")
    grown = 32 * 512 * 512 * 4  # bytes of the large one's output
    assert before.peak_bytes + grown < between.peak_bytes
    assert after.peak_bytes < before.peak_bytes + grown / 2


def test_it_runs_on_the_cores_that_it_is_given(program: Program, small: Model, tmp_path: Path):
    for core in sorted(os.sched_getaffinity(0))[:2]:
        steps = (Step(0, "time", 0, 1),)
        samples = {"status": "/proc/self/stat"}
        ran = program.run(program.manifest(small, steps=steps, cores=(core,), samples=samples), tmp_path)
        assert ran.hello().cores == (core,)
        assert int(ran.timed()[0].samples["status"].rpartition(")")[2].split()[36]) == core  # where it last ran


def test_first_lines_of_files_after_every_step(program: Program, small: Model, tmp_path: Path):
    (tmp_path / "heat").write_bytes(b'41"\\\x01\xff\xc3\xa9\nsecond line\n')
    (tmp_path / "empty").write_bytes(b"")
    os.mkfifo(tmp_path / "pipe")
    samples = {"zone 1": "heat", "none": "/does/not/exist", "nothing": "empty", "folder": "/tmp", "pipe": "pipe"}  # noqa: S108
    steps = (Step(0, "time", 0, 1), Step(0, "time", 0, 1))
    for timed in program.run(program.manifest(small, steps=steps, samples=samples), tmp_path).timed():
        assert timed.samples == {"zone 1": '41"\\\x01�é'}


def test_profile_and_optimised_graph_tell_the_nodes_times(program: Program, exported, tmp_path: Path):
    model = exported("digits")
    place = saved(model, tmp_path / "m.onnx")
    steps = (Step(0, "profile", 2, 3, optimised=True), Step(0, "profile", 0, 3))
    first, second = program.run(program.manifest(place, steps=steps), tmp_path).timed()
    optimised = onnx.load(tmp_path / str(first.optimised), load_external_data=False)
    assert (second.optimised, len(second.values_us)) == (None, 3)
    assert (tmp_path / str(first.optimised)).stat().st_size < (tmp_path / "m.onnx").stat().st_size / 4
    known = original_outputs(model, optimised)
    for timed, warmups in ((first, 2), (second, 0)):
        medians = parse_profile((tmp_path / str(timed.profile)).read_text(encoding="utf-8"), warmups)
        times = node_times(medians, known)
        assert timed.nodes_per_provider == {"CPUExecutionProvider": len(times)}
        tensors = {name for node in model.graph.node for name in node.output}
        convolutions = [node for node in times if node.op_type == "Conv"]
        assert convolutions
        assert all(set(node.outputs) <= tensors and node.outputs for node in convolutions)


def test_a_broken_model_costs_only_its_own_steps(program: Program, small: Model, tmp_path: Path):
    (tmp_path / "broken.onnx").write_bytes(b"no model")
    order = (1, 0, 1, 0)
    steps = tuple(Step(model, "time", 0, 2) for model in order)
    ran = program.run(program.manifest(small, Model("broken.onnx"), steps=steps), tmp_path)
    assert [(failed.step, failed.code) for failed in ran.failed()] == [(0, "model"), (2, "skipped")]
    assert "broken.onnx" in ran.failed()[0].message
    assert [timed.step for timed in ran.timed()] == [1, 3]


def test_a_full_or_closed_folder_costs_only_that_step(program: Program, small: Model, tmp_path: Path):
    (tmp_path / "output-0-0.bin").mkdir()
    steps = (Step(0, "outputs", 0, 1), Step(0, "time", 0, 1))
    ran = program.run(program.manifest(small, steps=steps), tmp_path)
    assert [(failed.step, failed.code) for failed in ran.failed()] == [(0, "file")]
    assert [timed.step for timed in ran.timed()] == [1]


def test_session_config_entries_reach_the_runtime(program: Program, small: Model, tmp_path: Path):
    steps = (Step(0, "time", 0, 1),)
    config = {"session.intra_op.allow_spinning": "0"}
    assert program.run(program.manifest(small, steps=steps, config=config, threads=2), tmp_path).timed()
    wrong = {"session.intra_op.allow_spinning": "perhaps"}
    ran = program.run(program.manifest(small, steps=steps, config=wrong), tmp_path, done=False)
    assert ran.code == 0
    assert [failed.code for failed in ran.failed()] in ([], ["model"])  # what ONNX Runtime thinks of it is its affair


NOISY = r"""
#include <stdio.h>
#include <stdint.h>
#include <unistd.h>
static const void *api(uint32_t version) { printf("api %u?\n", version); fflush(stdout); return 0; }
static const char *name(void) { write(1, "\xff{\n", 3); return "\xc3\x28\"1.2.3\n"; }
static const struct { const void *(*api)(uint32_t); const char *(*name)(void); } base = {api, name};
const void *OrtGetApiBase(void) { puts("hello from a library"); fflush(stdout); return &base; }
"""


@pytest.mark.skipif(shutil.which("gcc") is None, reason="there is no gcc")
def test_what_others_print_to_stdout_lands_on_stderr(program: Program, small: Model, tmp_path: Path):
    (tmp_path / "noisy.c").write_text(NOISY, encoding="utf-8")
    subprocess.run(["gcc", "-w", "-shared", "-fPIC", "noisy.c", "-o", "noisy.so"], cwd=tmp_path, check=True)
    text = program.manifest(small, steps=()).text().replace(str(program.library), "./noisy.so")
    ran = program.run(text, tmp_path, done=False)
    assert ran.events == [Failed(None, "library", 'ONNX Runtime �("1.2.3\n is too old: 1.7 is the oldest that will do')]
    assert ran.code == 4
    assert b"hello from a library" in ran.stderr
    assert b"api 7?" in ran.stderr


def test_nobody_listens(program: Program, small: Model, tmp_path: Path):
    (tmp_path / "m.txt").write_text(program.manifest(small, steps=(Step(0, "time", 0, 1),)).text(), encoding="utf-8")
    read, write = os.pipe()
    os.close(read)
    try:
        ended = subprocess.run(
            [program.runner, "m.txt"], cwd=tmp_path, stdout=write, stderr=subprocess.DEVNULL, check=False
        )
    finally:
        os.close(write)
    assert ended.returncode == 6
    closed = subprocess.run(["sh", "-c", f"exec {program.runner} m.txt >&- 2>&-"], cwd=tmp_path, check=False)
    assert closed.returncode == 6


def test_without_stderr_it_works_all_the_same(program: Program, small: Model, tmp_path: Path):
    (tmp_path / "m.txt").write_text(program.manifest(small, steps=(Step(0, "time", 0, 1),)).text(), encoding="utf-8")
    command = f"exec {program.runner} m.txt 2>&-"
    ended = subprocess.run(["sh", "-c", command], cwd=tmp_path, check=True, capture_output=True)
    assert ended.stdout.endswith(b'{"event":"done"}\n')


def test_the_timed_event_is_the_whole_of_a_step(program: Program, small: Model, tmp_path: Path):
    ran = program.run(program.manifest(small, steps=(Step(0, "outputs", 3, 2, optimised=True),)), tmp_path)
    (timed,) = ran.timed()
    assert isinstance(timed, Timed)
    assert (len(timed.warmups_us), len(timed.values_us)) == (3, 2)
    assert timed.optimised == "optimised-0.onnx"
    assert timed.outputs == ("output-0-0.bin",)
