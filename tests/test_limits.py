"""How long a test may take."""

import pytest

from tests.conftest import SLOW_TEST_SECONDS, pytest_collection_modifyitems


class Item:
    """A collected test with marks."""

    def __init__(self, *marks):
        self.marks = {mark.name: mark for mark in marks}

    def get_closest_marker(self, name):
        return self.marks.get(name)

    def add_marker(self, mark):
        self.marks[mark.name] = mark


def test_a_slow_test_has_a_limit_of_its_own():
    own = Item(pytest.mark.slow.mark, pytest.mark.timeout(3600).mark)
    slow, quick = Item(pytest.mark.slow.mark), Item()
    pytest_collection_modifyitems([own, slow, quick])
    assert own.marks["timeout"].args == (3600,)
    assert slow.marks["timeout"].args == (SLOW_TEST_SECONDS,)
    assert "timeout" not in quick.marks
