"""Limits of logs, each with its source ("API": botocore's text of the CloudWatch Logs API; "quotas": the user guide's
page "CloudWatch Logs quotas")."""

from __future__ import annotations

DAY_S = 86_400
MIB = 1 << 20

NAME_CHARS_MAX = 512  # API, CreateLogGroup, CreateLogStream
TAGS_MAX = 50  # API, CreateLogGroup
GROUPS_MAX = 100_000  # ours: of a process; quotas: a million of an account in a region
STREAMS_MAX = 200_000  # ours: of a process, 60 MB of memory; quotas: no limit
ACCOUNT_GROUPS_MAX, ACCOUNT_STREAMS_MAX = 50_000, 100_000  # ours: of one account, so that others have room
CROWDED = 0.8  # ours: of these; beyond it streams of whoever has most are forgotten, those silent longest first
SILENT_S_MIN = DAY_S  # ours: for how long they must have been silent
# API, PutRetentionPolicy: retentionInDays
RETENTION_DAYS = (
    1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1_096, 1_827, 2_192, 2_557, 2_922, 3_288, 3_653,
)  # fmt: skip

# --- putting: API, PutLogEvents
BATCH_BYTES_MAX = 1_048_576  # the messages in UTF-8, and EVENT_BYTES for each
EVENT_BYTES = 26
BATCH_EVENTS_MAX = 10_000
EVENT_BYTES_MAX = 1_048_576 - EVENT_BYTES  # quotas: an event, 1 MB
BATCH_SPAN_S_MAX = DAY_S
PAST_S_MAX = 14 * DAY_S  # nor older than the retention of the group
FUTURE_S_MAX = 2 * 3_600

# --- reading
EVENTS_MAX = 10_000  # API, GetLogEvents, FilterLogEvents: limit
REPLY_BYTES_MAX = MIB  # API, both: "as many log events as can fit in 1 MB"
LIST_MAX = 50  # API, DescribeLogGroups, DescribeLogStreams: limit
FILTER_STREAMS_MAX = 100  # API, FilterLogEvents: logStreamNames
PATTERN_CHARS_MAX = 1_024  # API, FilterLogEvents: filterPattern
PATTERN_DEPTH_MAX = 20  # ours
LOOKED_AT_MAX = 50_000  # ours: events that one call looks at; it answers with what it found, and where to go on
OPENED_BYTES_MAX = 64 * MIB  # ours: of messages in the blocks that one call opens
TAILS_MAX = 1_000  # ours: who follows at once
ACCOUNT_TAILS_MAX = 200  # ours: of one account; quotas: 15 of an account in a region
TAIL_WAITING_MAX = 10_000  # ours: events that wait for one who follows; beyond it the oldest are left out, and counted
TAIL_CHARS_MAX = 8 * MIB  # ours: of their messages

# --- keeping
MERGED_AT = 16  # ours: neighbours of one size that become one block
BLOCK_BYTES = 256 * 1024  # ours: then a block is not merged any more
STORED_BYTES_MAX = 4 << 30  # ours: of all logs of a process; beyond it the oldest blocks of whoever has most go
SWEEP_S = 60  # ours: how often it is looked for what expired
