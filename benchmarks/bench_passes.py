"""An iteration of DDRL on a small SD3 against its passes, and against a bare loop.

Eight samples, ten steps, nine of them trained, one data sample per rollout sample, LoRA of rank 32,
205 text tokens, no guidance. Three things are timed alternately in one process:

    ours    an iteration of the trainer
    bare    the same update written out by hand, with nothing that a user needs around it
    passes  the model alone: the same forwards and backwards

Prints a table and writes passes.json to `--out`, benchmarks/results without; on the device that
`--device` names.   python benchmarks/bench_passes.py
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers import SD3Transformer2DModel
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from benchmarks.record import RESULTS, budget_arguments, write_result

from ddrl.data.groups import Dealer
from ddrl.diffusion.kernels import FlowSDE
from ddrl.diffusion.process import RectifiedFlow
from ddrl.diffusion.schedule import time_grid
from ddrl.diffusion.transition import Transitions
from ddrl.models.ema import EMA
from ddrl.models.families.sd3 import SD3, SD3Condition
from ddrl.models.lora.adapter import LoRASettings, add_lora
from ddrl.objective.advantage import group_advantage
from ddrl.objective.loss import Objective
from ddrl.records import Advantages, Condition, Prompts
from ddrl.rewards.builtin.ink import Ink
from ddrl.rewards.scoring.attempt import WeightedReward
from ddrl.rewards.scoring.scorer import Scorer
from ddrl.training.collect import Collector
from ddrl.training.forward import Forward
from ddrl.training.learner import Learner
from ddrl.training.pool import Pool
from ddrl.training.rollout import Sampler
from ddrl.training.safety.inspector import Inspector
from ddrl.training.safety.watch import Watch
from ddrl.training.trainer import Trainer
from ddrl.training.update import Gradient

SAMPLES, STEPS, TOKENS, SIZE, ROUNDS = 8, 10, 205, 8, 5
TRAINED = tuple(range(9))
WIDTHS = {"14.5 M": (256, 8, 6), "0.09 M": (32, 4, 2)}  # width, heads, layers


class BenchModel:
    """An SD3 network with the texts already encoded."""

    process = RectifiedFlow()

    def __init__(self, width: int, heads: int, layers: int, device: torch.device) -> None:
        torch.manual_seed(0)
        self.device = device
        self.width = width
        self.calls = 0
        self.transformer: nn.Module = SD3Transformer2DModel(
            sample_size=SIZE,
            patch_size=1,
            in_channels=4,
            num_layers=layers,
            attention_head_dim=width // heads,
            num_attention_heads=heads,
            caption_projection_dim=width,
            joint_attention_dim=width,
            pooled_projection_dim=64,
            out_channels=4,
        ).eval()
        self.num_parameters = sum(p.numel() for p in self.transformer.parameters())
        add_lora(self.transformer, LoRASettings(rank=32), targets=SD3.lora_targets)
        self.transformer.to(device)

    def encode(self, texts: Sequence[str]) -> SD3Condition:
        """Random embeddings."""
        rng = torch.Generator().manual_seed(1)
        embeds = torch.randn(len(texts), TOKENS, self.width, generator=rng)
        pooled = torch.randn(len(texts), 64, generator=rng)
        return SD3Condition(embeds.to(self.device), pooled.to(self.device))

    def predict(self, x_t: Tensor, t: Tensor, condition: Condition) -> Tensor:
        """The network, counted."""
        assert isinstance(condition, SD3Condition)
        self.calls += 1
        output: Tensor = self.transformer(
            hidden_states=x_t,
            timestep=t * 1000,
            encoder_hidden_states=condition.embeds,
            pooled_projections=condition.pooled,
            return_dict=False,
        )[0]
        return output

    def encode_media(self, media: Tensor) -> Tensor:
        """Not used."""
        return media

    def decode(self, latents: Tensor, condition: Condition | None = None) -> Tensor:  # noqa: ARG002
        """Three channels as pixels."""
        return (latents[:, :3] / 2 + 0.5).clamp(0, 1)

    def latent_shape(self, height: int, width: int, frames: int = 1) -> tuple[int, ...]:  # noqa: ARG002
        """Fixed."""
        return (4, SIZE, SIZE)

    def time_shift(
        self,
        latent_shape: Sequence[int],  # noqa: ARG002
        num_steps: int | None = None,  # noqa: ARG002
    ) -> float:
        """None."""
        return 1.0


def make_trainer(model: BenchModel) -> Trainer:
    """Two prompts, four members each."""
    transitions = Transitions.build(FlowSDE(0.7), model.process, time_grid(STEPS))
    data = torch.randn(64, 4, SIZE, SIZE, generator=torch.Generator().manual_seed(2))
    captions = torch.arange(64) % 2
    trainable = [p for p in model.transformer.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trainable, lr=1e-4, fused=True)

    def advantage(rewards: Tensor, group: Tensor, keep: Tensor, _: Tensor) -> Advantages:
        return group_advantage(rewards, group, keep)

    shape = (4, SIZE, SIZE)
    sampler = Sampler(Forward(model), transitions, latent_shape=shape, seed=0, trained=TRAINED)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda _: 1.0)
    ema = EMA(model.transformer, decay=0.95)
    learner = Learner([Gradient(sampler, Objective())], optimizer, scheduler, ema, grad_clip=1.0)
    pool = Pool(Prompts.numbered(("a", "b")), model.encode(["a", "b"]), data, captions)
    scorer = Scorer([WeightedReward("ink", Ink())])
    return Trainer(
        Dealer(captions, num_prompts=2, seed=0, prompts_per_step=2, anchors_per_group=4),
        Collector(
            [sampler], pool, scorer, Inspector(learner.guard, learner.gradients), group_size=4
        ),
        advantage,
        learner,
        Watch(learner),
    )


def bare_loop(model: BenchModel, trainer: Trainer) -> Callable[[], None]:
    """The same mathematics by hand: no records, seeds by name, metrics, guard or averages."""
    t = trainer.sampler.transitions
    device = model.device
    a, b, std = (one.float().to(device) for one in (t.a, t.b, t.std))
    weight = t.kl_weight.float().to(device)
    times = t.times.float().to(device)
    parameters = [p for p in model.transformer.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=1e-4, fused=True)
    condition = trainer.collector.pool.condition[torch.arange(SAMPLES) // 4].to(model.device)

    def run() -> None:
        path, log_prob = [torch.randn(SAMPLES, 4, SIZE, SIZE, device=device)], []
        with torch.no_grad():
            for k in range(STEPS):
                v = model.predict(path[-1], times[k].expand(SAMPLES), condition)
                mean = a[k] * path[-1] + b[k] * v
                path.append(mean + std[k] * torch.randn_like(v))
                log_prob.append(-((path[-1] - mean) ** 2).flatten(1).sum(1) / (2 * std[k] ** 2))
            reward = model.decode(path[-1]).flatten(1).mean(1).reshape(2, 4)
            centred = reward - reward.mean(1, keepdim=True)
            advantage = (centred / (reward.std(1, keepdim=True) + 1e-4)).flatten()
        optimizer.zero_grad()
        x0 = trainer.collector.pool.x0[torch.randint(64, (SAMPLES,))].to(device)
        for k in TRAINED:
            v = model.predict(path[k], times[k].expand(SAMPLES), condition)
            error = path[k + 1] - a[k] * path[k] - b[k] * v
            ratio = (-(error**2).flatten(1).sum(1) / (2 * std[k] ** 2) - log_prob[k]).exp()
            loss = -torch.minimum(ratio * advantage, ratio.clamp(0.8, 1.2) * advantage).mean()
            torch.autograd.backward(loss)
        for k in TRAINED:
            noise = torch.randn_like(x0)
            x_t = (1 - times[k]) * x0 + times[k] * noise
            v = model.predict(x_t, times[k].expand(SAMPLES), condition)
            error = (v - (noise - x0)) ** 2
            torch.autograd.backward(weight[k] * error.flatten(1).sum(1).mean())
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()

    return run


def passes(model: BenchModel, trainer: Trainer) -> Callable[[], None]:
    """The model's own work."""
    condition = trainer.collector.pool.condition[torch.arange(SAMPLES) // 4].to(model.device)
    x = torch.randn(SAMPLES, 4, SIZE, SIZE, device=model.device)
    t = torch.rand(SAMPLES, device=model.device)

    def run() -> None:
        with torch.no_grad():
            for _ in range(STEPS):
                model.predict(x, t, condition)
        for _ in range(2 * len(TRAINED)):
            v = model.predict(x, t, condition)
            torch.autograd.backward(v, torch.ones_like(v))
        for p in model.transformer.parameters():
            p.grad = None

    return run


def finished(function: Callable[[], object], device: torch.device) -> Callable[[], None]:
    """A call that waits for its work on a GPU."""

    def run() -> None:
        function()
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    return run


def measure(width: int, heads: int, layers: int, device: torch.device) -> dict[str, Any]:
    """Medians of the three, and of their ratios round by round."""
    model = BenchModel(width, heads, layers, device)
    trainer = make_trainer(model)
    todo: dict[str, Callable[[], object]] = {
        "ours": trainer.iteration,
        "bare": bare_loop(model, trainer),
        "passes": passes(model, trainer),
    }
    todo = {name: finished(function, device) for name, function in todo.items()}
    for function in todo.values():
        function()
    model.calls = 0
    trainer.iteration()
    calls = model.calls
    seconds: dict[str, list[float]] = {name: [] for name in todo}
    for _ in range(ROUNDS):
        for name, function in todo.items():
            start = time.perf_counter()
            function()
            seconds[name].append(time.perf_counter() - start)
    share = [p / o for p, o in zip(seconds["passes"], seconds["ours"], strict=True)]
    beside = [o / b for o, b in zip(seconds["ours"], seconds["bare"], strict=True)]
    return {
        "parameters": model.num_parameters,
        "calls": calls,
        "calls_planned": STEPS + 2 * len(TRAINED),
        **{f"{name}_s": round(statistics.median(s), 4) for name, s in seconds.items()},
        "share_of_passes": round(statistics.median(share), 3),
        "ours_over_bare": round(statistics.median(beside), 3),
    }


def main() -> None:
    """Measure both sizes."""
    parser = budget_arguments(__doc__)
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    device = torch.device(arguments.device)
    sizes = {name: size for name, size in WIDTHS.items() if not arguments.tiny or size[0] < 64}
    results = {name: measure(*shape, device) for name, shape in sizes.items()}
    for name, row in results.items():
        print(
            f"{name:7s} calls {row['calls']} of {row['calls_planned']} planned   "
            f"ours {row['ours_s']:.3f} s   bare {row['bare_s']:.3f} s   "
            f"passes {row['passes_s']:.3f} s   share {row['share_of_passes']:.3f}   "
            f"ours / bare {row['ours_over_bare']:.3f}"
        )
    folder = arguments.out or (None if arguments.tiny else RESULTS)
    if folder is not None:
        values = {"device": str(device), "rounds": ROUNDS, "results": results}
        write_result("passes", values, script=__file__, folder=folder)


if __name__ == "__main__":
    main()
