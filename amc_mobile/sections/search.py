"""[search]: who decides how many channels stay, and by what."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from amc_mobile.sections.section import Section
from amc_mobile.types import ACCURACIES, RewardName, TaskName

AgentName = Literal[
    "auto",
    "ddpg",
    "ddpg-warm",
    "sb3-ddpg",
    "sb3-td3",
    "uniform",
    "shallow",
    "deep",
    "random",
    "sensitivity",
    "greedy",
    "knapsack",
    "netadapt",
]


class SearchConfig(Section):
    """AMC's search. Rewards: R_err = -error by the task's accuracy; 'kl' is minus the divergence from the original."""

    agent: AgentName = Field("auto", description="who searches; 'auto' runs the good ones and returns the best")
    protocol: Literal["resource", "accuracy"] = Field(
        "resource", description="'resource': best accuracy within the budget; 'accuracy': least cost within max_loss"
    )
    max_loss: float = Field(
        0.01, ge=0, lt=1, description="protocol 'accuracy': what the reward's accuracy may lose on the search images"
    )
    granularity: Literal["channel", "weight"] = Field("channel", description="'weight': fine-grained pruning")
    episodes: int = Field(400, ge=1)
    evaluations: int | None = Field(
        None, ge=1, description="at most so many networks are evaluated, sensitivities included; none: no limit"
    )
    racing: bool = Field(True, description="stop evaluations that cannot win any more; what is stopped never wins")
    evaluator: Literal["auto", "onnxruntime", "torch"] = Field(
        "auto", description="'auto': torch if there is a GPU, else ONNX Runtime on the CPU"
    )
    warmup_episodes: int = Field(
        100, ge=0, description="episodes of constant noise, at most half of all; warm agents need none"
    )
    reward: RewardName = Field(
        "top1", description="classification: 'top1', 'top5'; detection: 'map' (its default), 'map50'; any: 'kl'"
    )
    min_keep_ratio: float = Field(0.2, gt=0.0, le=1.0)
    round_to: int = Field(
        8, ge=1, description="widths are multiples of this, if that leaves eight choices (four in small groups)"
    )
    latency_margin: float = Field(
        0.01, ge=0, lt=0.5, description="share of a latency budget left to the clock's noise and the table's error"
    )
    random_policies: int = Field(10, ge=0, description="random policies on the budget, among the opponents")
    sensitivity_points: int = Field(5, ge=1, description="widths at which each group alone is evaluated")
    warm_sigma: float = Field(0.1, ge=0, description="warm agents: replaces noise_sigma, the actor begins good")
    guided_share: float = Field(0.6, ge=0, le=1, description="agent auto: share that the guided descent may use")
    local_share: float = Field(
        0.5, ge=0, le=1, description="agent auto: share of the episodes that are random changes to the best policy"
    )
    local_sigma: float = Field(0.1, gt=0, description="width of the noise in those episodes")
    local_groups: float = Field(0.2, gt=0, le=1, description="share of the groups that gets noise in such an episode")
    hidden: int = Field(300, ge=1, description="paper: two hidden layers of 300")
    actor_lr: float = Field(1e-4, gt=0)
    critic_lr: float = Field(1e-3, gt=0)
    tau: float = Field(0.01, gt=0, le=1)
    batch_size: int = Field(64, ge=1)
    gamma: float = Field(1.0, ge=0, le=1)
    replay_per_layer: int = Field(100, ge=1, description="replay capacity = this times the number of groups")
    noise_sigma: float = Field(0.5, ge=0)
    noise_decay: float = Field(0.95, gt=0, le=1, description="per episode after the warm-up")
    baseline_decay: float = Field(0.5, ge=0, lt=1, description="moving average of batch rewards: reference's alpha")
    threads: int | None = Field(None, ge=1, description="cores for evaluation; none: all")


def default_reward(task: TaskName) -> RewardName:
    """What the agent is paid by where nothing is said: the task's strict accuracy."""
    return ACCURACIES[task][0]
