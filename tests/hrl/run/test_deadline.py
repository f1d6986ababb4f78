"""A run stops while there is still time for what it has seen an iteration and a save take."""

from hrl.run.deadline import FIRST_SAVE_SECONDS, Deadline


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def passed(clock, block, seconds):
    with block:
        clock.now += seconds


def test_no_limit_is_never_near():
    clock = Clock()
    deadline = Deadline(None, clock)
    passed(clock, deadline.iteration(), 1e9)
    assert not deadline.is_near()


def test_it_leaves_time_for_the_longest_iteration_and_the_longest_save():
    clock = Clock()
    deadline = Deadline(100.0, clock)
    passed(clock, deadline.iteration(), 20.0)
    passed(clock, deadline.iteration(), 10.0)
    assert not deadline.is_near()  # at 30: 30 + 20 + FIRST_SAVE_SECONDS
    passed(clock, deadline.save(), 30.0)  # at 60: 60 + 20 + 30 is more than 100
    assert FIRST_SAVE_SECONDS < 30
    assert deadline.is_near()


def test_a_limit_that_is_too_short_still_lets_one_iteration_be_made():
    clock = Clock()
    deadline = Deadline(1.0, clock)
    clock.now += 50
    assert not deadline.is_near()
    passed(clock, deadline.iteration(), 1.0)
    assert deadline.is_near()
