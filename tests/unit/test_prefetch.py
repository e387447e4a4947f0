"""When a consumer claims ahead."""

from actors.queue.prefetch import QUICK_SECONDS, Prefetch


def test_nothing_is_claimed_ahead_before_the_first_message_ended() -> None:
    """Until then the durations are unknown."""
    assert not Prefetch().is_quick


def test_short_runs_allow_claiming_ahead_and_long_runs_end_it() -> None:
    """By the mean of some tens of runs."""
    prefetch = Prefetch()
    quick = []
    for seconds, times in ((0.001, 1), (10 * QUICK_SECONDS, 30), (0.001, 60)):
        for _ in range(times):
            prefetch.note(seconds)
        quick.append(prefetch.is_quick)
    assert quick == [True, False, True]


def test_a_stall_ends_claiming_ahead_until_a_short_run() -> None:
    """Hanging threads report no duration, so the mean alone would not change."""
    prefetch = Prefetch()
    for _ in range(100):
        prefetch.note(0.001)
    prefetch.stall()
    stalled = prefetch.is_quick
    prefetch.note(0.001)
    assert (stalled, prefetch.is_quick) == (False, True)
