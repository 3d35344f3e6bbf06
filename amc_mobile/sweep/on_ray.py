"""A farm on Ray: every node offers its cores, and a device attached to it as a resource that one job can have.

A phone is the resource "amc:NAME", one of it on the node that it is attached to. The processor of a node, as a device
to be measured, is "amc:host/MODEL xCORES": any node of that kind will do, and a job that measures has it to itself.
Nodes see the sweep's folder at the same path (NFS or alike).
"""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from amc_mobile.errors import ConfigError, DeviceError, RunFolderError, first_line
from amc_mobile.sweep.attempt import Order, attempt
from amc_mobile.sweep.board import Ended
from amc_mobile.sweep.plan import Job

if TYPE_CHECKING:
    from types import ModuleType

# Ray gives its workers a low priority: on a busy machine whoever measures would be last. Read when a node is started.
SETTINGS = {"RAY_worker_niceness": "0", "RAY_USAGE_STATS_ENABLED": "0"}
_STORE_BYTES = 80_000_000  # of Ray's object store, which holds next to nothing
_PROBE_S = 60.0
_LOST = -1

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Room:
    """What jobs may use: cores and GPUs of a job that only computes; the resource of each device by its name."""

    cpus: float
    gpus: float
    resources: Mapping[str, str]
    whole_node: frozenset[str] = frozenset()  # devices that share the cores with other jobs: theirs is all of a node


def resource(device: str) -> str:
    """The name under which nodes offer a device."""
    return f"amc:{device}"


def import_ray() -> ModuleType:
    """Ray. Raises: ConfigError if it is not installed."""
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    try:
        import ray
    except ImportError as error:
        raise ConfigError("a sweep runs on Ray, which is not here; type: pip install 'amc-mobile[ray]'") from error
    return ray


@contextlib.contextmanager
def started(address: str | None, offers: Sequence[str], cpus: int) -> Iterator[ModuleType]:
    """Ray, connected to the cluster at the address, or without one started here with these resources.

    What was started here is stopped in the end; jobs in a cluster are taken back. Raises: ConfigError.
    """
    ray = import_ray()
    ours = signal.getsignal(signal.SIGTERM)
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR", "configure_logging": False}
    try:
        if address is None:
            here: dict[str, Any] = {"num_cpus": cpus, "resources": dict.fromkeys(offers, 1)}
            ray.init("local", include_dashboard=False, object_store_memory=_STORE_BYTES, **here, **quiet)
        else:
            ray.init(address, **quiet)
    except (ray.exceptions.RayError, ConnectionError, RuntimeError, ValueError, OSError) as error:
        where = "here" if address is None else f"at {address}"
        raise ConfigError(
            f"there is no Ray {where}: {first_line(error)}; `amc sweep --help` says how to begin"
        ) from error
    try:
        signal.signal(signal.SIGTERM, ours)  # Ray has put its own there
        yield ray
    finally:
        ray.shutdown()


class RayFarm:
    """Jobs as Ray tasks. `orders` says what a job is told to do."""

    def __init__(self, ray: ModuleType, room: Room, orders: Callable[[Job], Order]) -> None:
        self._ray = ray
        self._room = room
        self._orders = orders
        self._tasks: dict[str, Any] = {}
        self._attempt = ray.remote(max_retries=0)(_on_node)

    def check_nodes(self, folder: Path) -> list[str]:
        """What is odd about nodes but does not hinder.

        Raises: RunFolderError if a node does not see the folder; ConfigError if it has another version of ours.
        """
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        nodes, token = self._nodes(), secrets.token_hex(8)
        mark = folder / f".seen-{token}.tmp"
        mark.write_text(token, encoding="utf-8")
        try:
            probe = self._ray.remote(num_cpus=0, max_retries=0)(_look)
            asked = {
                node["NodeID"]: probe.options(
                    scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
                ).remote(str(mark))
                for node in nodes
            }
            odd = [self._judge(node, asked[node["NodeID"]], folder, token) for node in nodes]
            return [text for text in odd if text]
        finally:
            mark.unlink(missing_ok=True)

    def _judge(self, node: Mapping[str, Any], task: Any, folder: Path, token: str) -> str:
        where, ours = node["NodeManagerAddress"], metadata.version("amc-mobile")
        try:
            seen, version, niceness = self._ray.get(task, timeout=_PROBE_S)
        except (self._ray.exceptions.RayError, ValueError) as error:
            raise ConfigError(
                f"node {where} cannot run our jobs ({first_line(error)}); install amc-mobile {ours} there"
            ) from error
        if seen != token:
            raise RunFolderError(f"node {where} does not see {folder}; share that folder with all nodes, or set --out")
        if version != ours:
            raise ConfigError(f"node {where} has amc-mobile {version}, and {ours} is here; install the same one there")
        low = niceness > os.getpriority(os.PRIO_PROCESS, 0)
        how = " ".join(f"{name}={value}" for name, value in SETTINGS.items())
        return f"node {where} runs jobs with low priority: start it with {how}" if low else ""

    def _nodes(self) -> list[dict[str, Any]]:
        return [node for node in self._ray.nodes() if node["Alive"]]

    def absent(self, device: str) -> str:
        """Why no node has this device, in one line; empty if one has it."""
        name = self._room.resources[device]
        if any(name in node["Resources"] for node in self._nodes()):
            return ""
        return f"no node of the cluster has {device} ({name!r}); `amc devices --ray` says how one joins that has it"

    def require(self, devices: Sequence[str]) -> None:
        """Raises: DeviceError if a device is nowhere; ConfigError if no node is as large as jobs want it."""
        for device in devices:
            if reason := self.absent(device):
                raise DeviceError(reason)
        sizes = [tuple(node["Resources"].get(kind, 0.0) for kind in ("CPU", "GPU")) for node in self._nodes()]
        wanted = (self._room.cpus, self._room.gpus)
        if not any(cpus >= wanted[0] and gpus >= wanted[1] for cpus, gpus in sizes):
            largest = max(sizes, default=(0.0, 0.0))
            raise ConfigError(
                f"every job claims {wanted[0]:g} core(s) and {wanted[1]:g} GPU(s) of a node, and no node has both (the "
                f"largest: {largest[0]:g} and {largest[1]:g}); lower sweep.cpus or sweep.gpus (--cpus, --gpus)"
            )

    def ask(self, device: str, question: Callable[..., T], *arguments: object) -> list[T]:
        """What every node that has this device answers to a function of ours. Raises: ConfigError if one cannot."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        task, name = self._ray.remote(num_cpus=0, max_retries=0)(question), self._room.resources[device]
        nodes = [node["NodeID"] for node in self._nodes() if name in node["Resources"]]
        asked = [
            task.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)).remote(*arguments)
            for node in nodes
        ]
        try:
            return list(self._ray.get(asked, timeout=_PROBE_S))
        except (self._ray.exceptions.RayError, ValueError) as error:
            raise ConfigError(f"the node that has {device} cannot run our jobs ({first_line(error)})") from error

    def needs(self, job: Job) -> dict[str, Any]:
        """What the job claims of a node, as Ray's options."""
        if not job.device:
            return {"num_cpus": self._room.cpus, "num_gpus": self._room.gpus}
        name = self._room.resources[job.device]
        cores = [node["Resources"].get("CPU", 0.0) for node in self._nodes() if name in node["Resources"]]
        whole = job.device in self._room.whole_node
        gpus = 1.0 if job.device.startswith("cuda") else 0.0
        return {"num_cpus": min(cores, default=1.0) if whole else 1.0, "num_gpus": gpus, "resources": {name: 1.0}}

    def give(self, job: Job) -> None:
        """Hands a job out; it begins when there is room for it."""
        self._tasks[job.name] = self._attempt.options(name=job.name, **self.needs(job)).remote(self._orders(job))

    def take(self, timeout_s: float) -> dict[str, Ended]:
        """The jobs that ended since the last call, by name; waits for one at most so long."""
        names = {task: name for name, task in self._tasks.items()}
        ready, _ = self._ray.wait(list(names), num_returns=1, timeout=timeout_s) if names else ([], [])
        return {names[task]: self._end(names[task]) for task in ready}

    def _end(self, name: str) -> Ended:
        try:
            return self._ray.get(self._tasks.pop(name))  # type: ignore[no-any-return]
        except self._ray.exceptions.RayError as error:
            return Ended(_LOST, first_line(error))

    def drop(self, job: Job) -> None:
        """Takes a job back."""
        self._ray.cancel(self._tasks.pop(job.name), force=True)

    def stop(self) -> None:
        """Takes all jobs back, and waits until those that run have put down what they have."""
        for task in self._tasks.values():
            self._ray.cancel(task)
        if self._tasks:
            self._ray.wait(list(self._tasks.values()), num_returns=len(self._tasks), timeout=_PROBE_S)
        self._tasks.clear()


def _on_node(order: Order) -> Ended:
    import ray

    return attempt(order, ray.get_runtime_context().get_node_id()[:8])


def _look(mark: str) -> tuple[str, str, int]:
    """What stands in the file, if this node sees it, which version of ours is here, and how nice it is to others."""
    path = Path(mark)
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    return text, metadata.version("amc-mobile"), os.getpriority(os.PRIO_PROCESS, 0)
