"""Every limit of rules and its source: "model" is events' API model, "quotas" the guide's page of quotas."""

from __future__ import annotations

RULES_MAX = 300  # quotas: rules of an event bus
TARGETS_MAX = 5  # quotas: targets of a rule
NAME_CHARS_MAX = 64  # model, RuleName, TargetId
DESCRIPTION_CHARS_MAX = 512  # model
EXPRESSION_CHARS_MAX = 256  # model, ScheduleExpression
PATTERN_CHARS_MAX = 4_096  # model, EventPattern
INPUT_CHARS_MAX = 8_192  # model, TargetInput, TransformerInput
PATH_CHARS_MAX = 256  # model, TargetInputPath
PATHS_MAX = 100  # model, TransformerPaths
GROUP_CHARS_MAX = 100  # model, MessageGroupId
RETRIES = (0, 185)  # model, MaximumRetryAttempts; the most is the default
AGE_S = (60, 86_400)  # model, MaximumEventAgeInSeconds; the most is the default

ENTRIES_MAX = 10  # model, PutEventsRequestEntryList
ENTRIES_BYTES_MAX = 256 * 1024  # guide, "Calculating PutEvents event entry size": of all entries together
TESTS_AT_ONCE = 10_000  # ours: of one event against conditions on the event loop, some 10 ms
TESTS_BESIDE = 3_000_000  # ours: of one event in all, some 3 s
BESIDE_MAX = 4  # ours: events of an account that are matched, or wait to be, beside the event loop
TIME_BYTES = 14  # same page: what a time counts for

PAGE = 100  # model, LimitMax100

DELIVERIES_MAX = 1_000_000  # ours: 300 MB of memory
ACCOUNT_DELIVERIES_MAX = 250_000  # ours: nobody's backlog takes the room of all
AT_ONCE_MAX = 32  # ours: deliveries to one target
ACCOUNT_AT_ONCE_MAX = 128  # ours: of one account, some 100 MB where its events are as long as they may be
GIVEN_CHARS_MAX = 1024 * 1024  # ours: of what a template makes of an event, as much as a queue takes
BACKOFF_S = (1.0, 300.0)  # ours: between two tries, doubling; EventBridge does not say its own
