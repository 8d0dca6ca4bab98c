"""What holds for every test: shapes are checked, one thread, no change of torch's global state."""

from __future__ import annotations

from collections.abc import Iterator

import jaxtyping
import pytest
import torch
from hypothesis import HealthCheck, settings
from tests.torch_state import TorchState

# The annotated shapes of these packages are checked at every call. The hook must be in place
# before anything imports them, hence here and not in a fixture.
CHECKED = ["ddrl.diffusion", "ddrl.objective", "ddrl.records"]
jaxtyping.install_import_hook(CHECKED, "beartype.beartype")

# Tests that stand in no test file; their asserts should say what they saw, as others do.
pytest.register_assert_rewrite("tests.models.families.checks")

torch.set_num_threads(1)

# How fast examples come says how busy the machine is.
settings.register_profile("ddrl", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("ddrl")


@pytest.fixture(autouse=True)
def _torch_state_is_kept() -> Iterator[None]:
    """Fail a test that changes torch's global state: randomness has names, no global seed."""
    before = TorchState.capture()
    yield
    changes = before.changes()
    before.restore()
    if changes:
        pytest.fail("the test " + ", and ".join(changes))
