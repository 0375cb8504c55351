"""What may happen to a turn or an update, and the tests that show what is true after it, on every store."""

from __future__ import annotations

import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

STORES = {"memory", "directory", "s3", "blob"}
FOLDERS = ("tests/hosting/protocol", "tests/hosting/mailbox", "tests/hosting/retention")

# No process can be killed or stopped and leave its memory to others. What stands there for memory is a store in memory
# whose operations fail, whose holders' clocks go on without them, and which several instances of one process share.
ROWS: dict[str, tuple[str, ...]] = {
    "killed before it has the lease: nothing is written, an update is still there": (
        "protocol/test_kills.py::test_a_turn_that_is_killed_is_whole_or_has_never_been",
        "protocol/test_lost_answers.py::test_a_store_that_is_away_at_the_beginning_has_had_no_effect",
        "mailbox/test_kills.py::test_killed_before_it_has_the_lease_it_leaves_the_update_where_it_is",
    ),
    "the answer to the lease is lost: its own token is found, the turn goes on": (
        "protocol/test_lost_answers.py::test_a_turn_survives_a_fault_at_any_write_of_its_head",
    ),
    "killed between lease and commit: the lease ages out, the attempt is counted, the history untouched": (
        "protocol/test_kills.py::test_a_killed_turn_is_counted_as_an_attempt_and_its_snapshot_is_left_behind",
        "protocol/test_kills.py::test_a_process_that_dies_in_the_middle_of_its_run_leaves_no_trace",
        "protocol/test_leases.py::test_a_dead_holder_is_waited_for_as_long_as_its_lease",
        "mailbox/test_kills.py::test_killed_between_lease_and_commit_it_has_used_up_an_attempt",
    ),
    "killed after the large snapshot's put: an orphan, collected later": (
        "protocol/test_kills.py::test_a_killed_turn_is_counted_as_an_attempt_and_its_snapshot_is_left_behind",
        "mailbox/test_kills.py::test_killed_after_a_large_snapshot_it_leaves_an_orphan_and_nothing_else",
        "retention/test_prune.py::test_a_prune_removes_what_may_go_and_nothing_else",
    ),
    "the answer to the commit is lost, whether others have gone on or not: it is saved": (
        "protocol/test_lost_answers.py::test_a_turn_survives_a_fault_at_any_write_of_its_head",
        "protocol/test_lost_answers.py::test_the_answer_of_a_commit_is_lost_and_others_went_on",
    ),
    "the answer to the commit is unknown to the end: 503, and no client repeats it by itself": (
        "protocol/test_lost_answers.py::test_the_answer_of_a_commit_is_unknown_to_the_end",
    ),
    "killed after the commit, before the reply: the next holder replies without running": (
        "mailbox/test_kills.py::test_killed_after_the_commit_and_before_the_reply_others_reply_without_running",
        "mailbox/test_turns.py::test_a_turn_that_is_repeated_answers_as_before_without_running",
    ),
    "killed after the reply, before it is done: the reply may repeat, the history does not": (
        (
            "mailbox/test_kills.py::"
            "test_killed_after_the_reply_and_before_it_is_done_the_reply_repeats_and_the_history_does_not"
        ),
        "mailbox/test_accepting.py::test_an_http_turn_comes_between_a_reply_and_its_repeat",
    ),
    "frozen for longer than its lease, then resumed: it saves and sends nothing, its checkpoints do not count": (
        "protocol/test_freezes.py::test_a_turn_that_is_frozen_anywhere_and_taken_over_is_whole_or_has_never_been",
        "protocol/test_freezes.py::test_a_frozen_run_neither_saves_nor_sends_once_it_was_taken_over",
        "protocol/test_freezes.py::test_the_checkpoint_of_a_frozen_workflow_does_not_count",
        "protocol/test_leases.py::test_a_holder_that_was_taken_over_saves_and_sends_nothing",
        "mailbox/test_freezes.py::test_frozen_before_the_commit_it_saves_and_sends_nothing_more",
    ),
    "frozen while the answer to the commit is on its way: it is saved, the new holder replies": (
        "protocol/test_freezes.py::test_a_commit_whose_answer_came_late_is_saved",
        "protocol/test_lost_answers.py::test_the_answer_of_a_commit_is_lost_and_others_went_on",
        "mailbox/test_freezes.py::test_frozen_while_the_answer_of_the_commit_is_on_its_way_the_new_holder_replies",
    ),
    "a frozen pruner or deleter resumes: nothing live is removed": (
        "retention/test_freezes.py::test_a_pruner_that_was_frozen_removes_nothing_that_is_live_by_then",
        "retention/test_freezes.py::test_a_deleter_that_was_frozen_removes_nothing_that_has_begun_since",
        "retention/test_prune.py::test_who_uses_an_idle_conversation_first_keeps_it",
        "retention/test_deletion.py::test_what_was_begun_anew_while_an_answer_was_lost_stays",
    ),
    "an update is accepted while the lease is given back: it is processed": (
        "mailbox/test_accepting.py::test_an_update_that_is_accepted_while_the_lease_is_given_back_is_processed",
    ),
    "the waker dies, or the queue loses the message: a sweep finds the update": (
        "mailbox/test_accepting.py::test_updates_of_a_process_that_died_are_found_by_the_next_one",
        "mailbox/test_accepting.py::test_a_wake_that_fails_does_not_undo_the_acknowledgement",
    ),
    "an update always kills its process: it is set aside after the last attempt": (
        "mailbox/test_kills.py::test_an_update_that_always_kills_the_process_is_set_aside_and_the_next_one_processed",
        "mailbox/test_failures.py::test_a_failing_update_is_tried_again_later_and_later_and_then_set_aside",
    ),
    "an update comes again before, during and after its processing, and a day later: one run": (
        "mailbox/test_order.py::test_the_same_update_before_during_and_after_its_processing",
        "mailbox/test_accepting.py::test_a_repeat_a_day_later_is_known_and_one_much_later_is_not",
    ),
    "reset or deleted during a turn: the reset waits; after the deletion the turn's save fails": (
        "protocol/test_resets.py::test_a_reset_waits_for_the_turn_under_way",
        "retention/test_deletion.py::test_a_running_turn_cannot_be_saved_after_a_deletion",
    ),
    "two clones of one process: one wins": (
        "protocol/test_leases.py::test_two_clones_of_one_process_do_not_both_win",
        "protocol/test_leases.py::test_clones_that_hold_one_lease_save_one_turn",
    ),
    "the store is away under load: nothing acknowledged is lost, holders stop themselves": (
        "protocol/test_hosts.py::test_a_store_that_is_away_under_load_loses_nothing_acknowledged",
        "mailbox/test_accepting.py::test_a_store_that_is_away_under_load_loses_nothing_acknowledged",
    ),
    "two turns of one conversation, one client repeating its own: each is in the history once": (
        "protocol/test_hosts.py::test_two_turns_of_one_conversation_one_of_them_retried",
        "protocol/test_leases.py::test_a_repeat_waits_for_the_first_and_is_refused",
    ),
    "killed and frozen at any moment under load: every acknowledged turn and update once, in order": (
        "protocol/test_rounds.py::test_a_hundred_rounds_lose_nothing_and_double_nothing",
        "protocol/test_lost_answers.py::test_a_caller_that_is_cancelled_anywhere_leaves_a_whole_turn_or_none",
    ),
}
# What is in memory is gone with the process that would have been woken.
NOT_IN_MEMORY = {"the waker dies, or the queue loses the message: a sweep finds the update"}


@pytest.fixture(scope="module")
def collected(workspace: Path) -> dict[str, set[str]]:
    """The stores that each test of the folders runs on."""
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", *FOLDERS]
    listed = subprocess.run(command, cwd=workspace, capture_output=True, check=True, text=True).stdout
    stores: defaultdict[str, set[str]] = defaultdict(set)
    for line in listed.splitlines():
        test, _, parameters = line.removeprefix("tests/hosting/").partition("[")
        stores[test] |= STORES & {*parameters.removesuffix("]").split("-")}
    return stores


@pytest.mark.parametrize("row", ROWS)
def test_every_row_is_shown_on_every_store(collected: dict[str, set[str]], row: str) -> None:
    assert [test for test in ROWS[row] if test not in collected] == []
    wanted = STORES - {"memory"} if row in NOT_IN_MEMORY else STORES
    assert set[str]().union(*(collected[test] for test in ROWS[row])) >= wanted
