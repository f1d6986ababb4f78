"""Commands that run in the test's own process leave it as they found it."""

import pytest
import torch


@pytest.fixture(autouse=True, scope="module")
def _threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)
