"""What may happen to an update on Lambda, and the tests that show what is true after it, on either runtime.

The same on every store, without Lambda, is told by `tests/hosting/protocol/test_walk_through.py`.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROWS: dict[str, dict[str, tuple[str, ...]]] = {
    "killed before it has answered, or after it and before the work: another environment does it": {
        "ours": ("test_ends::test_what_killed_environments_left_is_done_by_another_one_wherever_they_were",),
        "stock": ("test_ends::test_killed_while_it_replies_the_agent_is_not_run_again",),
    },
    "killed after the commit, before the reply is through: the reply may repeat, the history does not": {
        "ours": ("test_ends::test_killed_while_it_replies_the_agent_is_not_run_again",),
        "stock": ("test_ends::test_killed_while_it_replies_the_agent_is_not_run_again",),
    },
    "an update always kills its process: it is set aside after the last attempt": {
        "ours": ("test_ends::test_an_update_that_always_kills_its_process_is_set_aside",),
        "stock": ("test_ends::test_an_update_that_always_kills_its_process_is_set_aside",),
    },
    "an update always takes too long: it is set aside, and the next one is worked on": {
        "ours": ("test_ends::test_an_update_that_always_takes_too_long_is_set_aside_and_the_next_one_worked_on",),
        "stock": ("test_stock::test_an_update_that_always_takes_too_long_is_set_aside",),
    },
    "frozen for longer than a lease: after the answer the work is done then, taken over it saves nothing": {
        "ours": (
            "test_ends::test_frozen_after_the_response_for_longer_than_a_lease_it_does_the_work_then",
            "test_ends::test_frozen_in_the_middle_of_its_work_it_sends_and_saves_nothing_more",
        ),
        "stock": ("test_ends::test_frozen_in_the_middle_of_its_work_it_sends_and_saves_nothing_more",),
    },
    "the deadline comes: the conversation is given back, the update is left, or handed to the queue": {
        "ours": (
            "test_runtime::test_at_the_deadline_an_update_is_left_and_its_conversation_given_back",
            (
                "test_runtime_queue::"
                "test_what_the_invocation_had_no_time_for_is_handed_to_the_queue_and_done_when_that_triggers"
            ),
            "test_ends::test_a_request_that_does_not_end_leaves_no_lease_behind",
        ),
        "stock": (
            "test_stock::test_an_update_that_does_not_end_is_stopped_in_time_to_answer",
            "test_queue::test_an_update_that_does_not_end_is_stopped_within_a_short_time_out",
            "test_ends::test_a_request_that_does_not_end_leaves_no_lease_behind",
        ),
    },
    "an update comes again: one run": {
        "ours": ("test_runtime::test_a_repeat_is_accepted_and_not_worked_on_again",),
        "stock": ("test_stock::test_an_update_is_worked_on_before_the_response",),
    },
    "the wake is lost, or the queue is away: a sweep finds the update": {
        "ours": ("test_runtime::test_a_sweep_finds_what_nobody_was_told_of_and_works_on_conversations_side_by_side",),
        "stock": ("test_queue::test_with_the_queue_away_an_update_is_accepted_and_worked_on_by_a_sweep",),
    },
    "an attempt fails: it is put on hold, and made again later": {
        "ours": ("test_runtime::test_a_failed_update_is_put_on_hold_and_worked_on_by_a_later_invocation",),
        "stock": (
            "test_stock::test_an_update_that_fails_is_left_on_hold_and_the_response_stands",
            "test_queue::test_a_failed_update_is_a_success_of_its_message_and_wakes_again_after_its_back_off",
        ),
    },
    "a snapshot is restored: everything is connected to then": {
        "ours": ("test_snapshots::test_a_host_on_s3_connects_after_the_restore_and_then_does_all_its_work",),
        "stock": ("test_snapshots::test_a_host_on_s3_connects_after_the_restore_and_then_does_all_its_work",),
    },
    "SIGTERM in the middle of the work: the conversation is given back": {
        "ours": ("test_ends::test_an_environment_that_is_ended_in_the_middle_of_its_work_gives_the_conversation_back",),
    },
}


@pytest.mark.parametrize("row", ROWS)
def test_each_row_is_shown_by_tests_that_there_are(row: str) -> None:
    folder = Path(__file__).parent
    for runtime, tests in ROWS[row].items():
        for test in tests:
            module, _, name = test.partition("::")
            text = (folder / f"{module}.py").read_text()
            found = re.search(rf"^(@BOTH\n|@pytest[^\n]*\n)*(?:async )?def {name}\(", text, re.MULTILINE)
            assert found is not None, test
            # A test of our runtime shows the same on the stock one where it runs on both.
            if runtime == "stock" and module in ("test_ends", "test_snapshots"):
                assert "BOTH" in found[0] or "STOCK" in found[0], test
