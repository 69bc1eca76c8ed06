"""The grid: whatever lengths it had, each instant lies in exactly one window, and no window that began moves."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.unit.billing.world import NOON
from tollgate.billing.grid import AHEAD_S, Grid

LENGTHS = st.sampled_from([5, 7, 60, 90, 300, 420, 600])


@given(st.lists(st.tuples(LENGTHS, st.integers(0, 40_000)), min_size=1, max_size=6), st.integers(-5_000, 50_000))
def test_windows_tile_time_under_any_changes(changes: list[tuple[int, int]], look_at: int) -> None:
    now, grid = NOON, Grid.of(changes[0][0])
    for seconds, later in changes:
        begun = grid.windows(now - 2_000, now + AHEAD_S)
        grid = grid.with_length(seconds, now)
        assert grid.windows(now - 2_000, now + AHEAD_S) == begun
        now += later
    windows = grid.windows(NOON + look_at, NOON + look_at + 5_000)
    assert windows[0].start <= NOON + look_at < windows[0].end
    assert windows[-1].end >= NOON + look_at + 5_000
    for one, following in zip(windows, windows[1:], strict=False):
        assert one.end == following.start
    for window in windows:
        assert grid.windows(window.start, window.end) == [window]


def test_a_length_that_is_in_force_changes_nothing() -> None:
    assert Grid.of(300).with_length(300, NOON) == Grid.of(300)


def test_a_change_that_has_not_begun_can_be_taken_back() -> None:
    changed = Grid.of(300).with_length(420, NOON)
    assert changed != Grid.of(300)
    assert changed.with_length(300, NOON + 1) == Grid.of(300)


def test_a_marker_reaches_as_far_as_the_longest_length_near_it() -> None:
    grid = Grid.of(300).with_length(5, NOON)
    since = grid.reigns[-1][0]
    assert grid.reach(since + 10, 5) == 300
    assert grid.reach(since + 2 * 86_400, 5) == 5
    assert Grid.of(300).reach(NOON, 300) == 300
