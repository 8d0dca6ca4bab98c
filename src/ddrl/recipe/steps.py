"""Which steps of the sampler carry noise, and which of them are trained."""

from __future__ import annotations

from ddrl.recipe.sections.run import RolloutSection, StepSelection


def ends_without_noise(rollout: RolloutSection) -> bool:
    """Return whether the kernel's last step has std 0 at every eta, as for ``ddim`` and ``cps``.

    Both scale their noise by s, and s is 0 there. Eq. (T1).
    """
    return rollout.kernel in {"ddim", "cps"}


def is_deterministic(rollout: RolloutSection) -> bool:
    """Return whether the kernel adds no noise at all, so that eq. (T2) has no density."""
    return rollout.kernel == "ode" or rollout.eta == 0


def stochastic_steps(rollout: RolloutSection) -> tuple[int, ...]:
    """Return the steps with std > 0, ascending.

    These are the selected ``stochastic_steps`` without the ones that the kernel itself leaves
    without noise.
    """
    if is_deterministic(rollout):
        return ()
    end = rollout.steps - 1 if ends_without_noise(rollout) else rollout.steps
    return _resolve(rollout.stochastic_steps, tuple(range(end)))


def trained_steps(rollout: RolloutSection) -> tuple[int, ...]:
    """Return the steps that enter the loss, ascending: all stochastic ones, or those named."""
    return _resolve(rollout.trained_steps, stochastic_steps(rollout))


def _resolve(selection: StepSelection, allowed: tuple[int, ...]) -> tuple[int, ...]:
    if selection == "all":
        return allowed
    return tuple(step for step in allowed if step in selection)
