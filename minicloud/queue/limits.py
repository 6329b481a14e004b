"""Limits of queues, each with its source ("API": botocore's text of the SQS API; "guide": SQS Developer Guide)."""

from __future__ import annotations

QUEUE_NAME_CHARS_MAX = 80  # API, CreateQueue
QUEUES_MAX = 1_000_000  # ours: a broker; AWS has no limit an account
QUEUE_TAGS_MAX = 50  # API, TagQueue: "more than 50 tags isn't recommended"; refused here
QUEUE_RECREATE_S_MIN = 60  # API, CreateQueue: wait 60 s after deleting a queue of the same name
PURGE_INTERVAL_S_MIN = 60  # API, PurgeQueueInProgress

MESSAGE_BYTES_MAX = 1_048_576  # API, SendMessage: 1 MiB
MESSAGE_BYTES_MAX_MIN = 1_024  # API, MaximumMessageSize: 1 KiB is the least it can be set to
BATCH_BYTES_MAX = 1_048_576  # API, SendMessageBatch: all entries together
BATCH_ENTRIES_MAX = 10  # API, TooManyEntriesInBatchRequest
BATCH_ENTRY_ID_CHARS_MAX = 80  # API, SendMessageBatchRequestEntry
BULK_MESSAGES_MAX = 1_000  # ours: the bulk calls of the native API
BULK_BYTES_MAX = 4_194_304  # ours: all entries of such a call together
RECEIVE_BYTES_MAX = 3_145_728  # ours: frames of one receive, so that its answer stays below gRPC's 4 MiB
DOCUMENT_BYTES = 1_536  # ours: what a topic's document has around its message: ARNs, links, signature
MESSAGE_ATTRIBUTES_MAX = 10  # guide, "Message attribute components"
ATTRIBUTE_NAME_CHARS_MAX = 256  # guide, same page
ATTRIBUTE_TYPE_CHARS_MAX = 256  # guide, same page
TRACE_HEADER_CHARS_MAX = 4_096  # ours: X-Ray's header; it counts nothing in a message's size, so it has its own bound
TOKEN_CHARS_MAX = 128  # API: MessageGroupId, MessageDeduplicationId, ReceiveRequestAttemptId

DELAY_S_MAX = 900  # API, SendMessage: 15 minutes
VISIBILITY_S_DEFAULT = 30  # API, CreateQueue
VISIBILITY_S_MAX = 43_200  # API, ChangeMessageVisibility: 12 hours since the receive
RETENTION_S_MIN = 60  # API, CreateQueue
RETENTION_S_MAX = 1_209_600  # API: 14 days
RETENTION_S_DEFAULT = 345_600  # API: 4 days
WAIT_S_MAX = 20  # API, ReceiveMessage: WaitTimeSeconds
RECEIVE_MESSAGES_MAX = 10  # API, ReceiveMessage: MaxNumberOfMessages
IN_FLIGHT_MAX = 120_000  # API, ChangeMessageVisibility: standard (OverLimit) and FIFO (no error)

DEDUPLICATION_S = 300  # API, SendMessage: 5-minute deduplication interval
ATTEMPT_S = 300  # API, ReceiveMessage: ReceiveRequestAttemptId is usable for 5 minutes

MAX_RECEIVE_COUNT_MAX = 1_000  # guide, "Dead-letter queues": maxReceiveCount 1 to 1,000
MAX_RECEIVE_COUNT_DEFAULT = 10  # API, CreateQueue: RedrivePolicy
REDRIVE_SOURCES_MAX = 10  # API, CreateQueue: sourceQueueArns
MOVE_RATE_MAX = 500  # API, StartMessageMoveTask: messages a second
MOVE_TASKS_LISTED_MAX = 10  # API, ListMessageMoveTasks
MOVE_STEP_MESSAGES = 1_000  # ours: moved in one step of a task without a rate
MOVE_STEP_S = 0.02  # ours: pause between those steps, 50,000 a second
POLICY_BYTES_MAX = 8_192  # guide, quotas related to policies: 8,192 bytes
