"""DDRL as a library: the whole loop, with a reward of your own, in thirty lines.

Pretrains the embedded model on scanned digits, then teaches it to use less ink while the data
term holds it to real digits. Run it: python examples/library_use.py
"""

from __future__ import annotations

import torch

import ddrl


def main(num_pretrain: int = 300, num_iterations: int = 20) -> tuple[float, float]:
    """Train, and return the mean reward of the first and the last iteration."""
    data = ddrl.digit_splits().train
    model = ddrl.TinyModel(ddrl.TinyConfig(data.captions, height=8, columns=8, width=128))
    x0, prompts = model.encode_media(data.media), model.encode(data.captions)
    settings = ddrl.PretrainSettings(steps=num_pretrain)
    ddrl.pretrain(model, x0, prompts, data.caption_id, settings=settings)

    kernel = ddrl.make_kernel("flow_sde", eta=0.7)
    transitions = ddrl.Transitions.build(kernel, model.process, ddrl.time_grid(10))
    sampler = ddrl.Sampler(ddrl.Forward(model), transitions, latent_shape=(1, 8, 8), seed=0)
    objective = ddrl.Objective(policy="grpo", regularizer="data", beta=1.0)
    gradient = ddrl.Gradient(sampler, objective)
    optimizer = torch.optim.AdamW(model.transformer.parameters(), lr=2e-4, weight_decay=0.0)
    group = torch.arange(10).repeat_interleave(8)  # ten prompts, eight samples each
    keep = torch.ones(len(group), dtype=torch.bool)
    rewards = []
    for step in range(num_iterations):
        trajectory = sampler.rollout(prompts, group, step=step)
        reward = -model.decode(trajectory.final).flatten(1).mean(1)  # less ink is better
        rows = torch.randint(len(x0), (80,), generator=torch.Generator().manual_seed(step))
        anchor = ddrl.Anchor(x0[rows], prompts[data.caption_id[rows]], torch.arange(80))

        optimizer.zero_grad()
        gradient.policy(trajectory, ddrl.group_advantage(reward, group, keep))
        gradient.data(anchor, step=step)
        torch.nn.utils.clip_grad_norm_(model.transformer.parameters(), 1.0)
        optimizer.step()
        rewards.append(float(reward.mean()))
        print(f"iteration {step + 1:2d}  reward {rewards[-1]:.4f}")
    return rewards[0], rewards[-1]


if __name__ == "__main__":
    main()
