"""lost: what the coordination service writes becomes a line that names the process."""

import pytest

from deepfer_jax.lost import translate

# As jax 0.10.2 writes them.
POLLED = """\
W1127 06:56:55.886423    6856 preemption_sync_manager.cc:147] Failed to retrieve \
preemption notice from coordination service: UNAVAILABLE: Socket closed
Additional GRPC error information from remote target coordination_service while \
calling /xla.coordination.CoordinationService/GetKeyValue:
:UNKNOWN:Error received from peer  {grpc_message:"Socket closed", grpc_status:14}.
"""
FATAL = """\
{level}1127 06:56:47.788356    6771 {file}] Terminating process because the JAX \
distributed service detected fatal errors. absl::Status: UNAVAILABLE: """
UNHEALTHY = """\
The following tasks are unhealthy (stopped sending heartbeats):
{names}
The tasks have crashed. Check the task logs for an earlier error.

RPC: /xla.coordination.CoordinationService/PollForError
"""
LEADER = "Failed to send RPC to coordination service. Either the leader task was ...\n"
SHUTDOWN = """\
Barrier result: 'DEADLINE_EXCEEDED: Barrier timed out. Id: Shutdown::1188::0.
# of tasks that reached the barrier: 1/2.
The first task at the barrier: 0. Some timed out task names:
3
 [type.googleapis.com/tensorflow.BarrierError='Shutdown::11883737152329776378']
"""
TRACE = "*** Check failure stack trace: ***\n    @     0x7f7b3d040634  (unknown)\n"


def record(level, text):
    file = {"E": "coordination_service_agent.cc:289", "F": "client.h:80"}[level]
    return FATAL.format(level=level, file=file) + text


@pytest.mark.parametrize(
    ("text", "names"),
    [
        (UNHEALTHY.format(names="1"), "process 1"),
        (UNHEALTHY.format(names="1\n12"), "process 1, process 12"),
        (UNHEALTHY.format(names="/job:jax_worker/replica:0/task:2"), "process 2"),
        (LEADER, "process 0"),
        (SHUTDOWN, "process 3"),
        ("something else\n", "a process"),
    ],
)
def test_the_end_is_one_line(text, names):
    log = POLLED + record("E", text) + record("F", text) + TRACE
    lines = list(translate(log.encode().splitlines(keepends=True)))
    (line,) = lines
    assert line.decode() == (
        f"error: {names} of this run ended or answers no more: all end here; "
        "the same command goes on from the newest whole checkpoint\n"
    )


def test_other_lines_are_handed_on():
    other = b"W1127 06:56:55.886423    6856 cuda.cc:1] no GPU\nof two lines\n\nmore\n"
    log = POLLED.encode() + other
    assert b"".join(translate(log.splitlines(keepends=True))) == other
