"""When a consumer claims ahead."""

from actors.queue.prefetch import QUICK_SECONDS, Prefetch


def test_nothing_is_claimed_ahead_before_anything_ended() -> None:
    """Where nothing is known, what is claimed is started."""
    assert not Prefetch().is_quick


def test_quick_endings_allow_it_and_slow_ones_end_it() -> None:
    """By the mean of the last some tens."""
    prefetch = Prefetch()
    quick = []
    for seconds, times in ((0.001, 1), (10 * QUICK_SECONDS, 30), (0.001, 60)):
        for _ in range(times):
            prefetch.note(seconds)
        quick.append(prefetch.is_quick)
    assert quick == [True, False, True]


def test_a_stall_ends_it_until_something_ends_quickly() -> None:
    """Hanging threads report nothing, so the mean alone would go on."""
    prefetch = Prefetch()
    for _ in range(100):
        prefetch.note(0.001)
    prefetch.stall()
    stalled = prefetch.is_quick
    prefetch.note(0.001)
    assert (stalled, prefetch.is_quick) == (False, True)
