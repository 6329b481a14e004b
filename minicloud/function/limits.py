"""Every limit of functions and its source: "model" is lambda's API model, "quotas" the guide's page of quotas."""

from __future__ import annotations

MIB = 1024 * 1024

# --- configuration
MEMORY_MIB = (128, 32_768)  # model, MemorySize
MEMORY_MIB_DEFAULT = 128
TIMEOUT_S = (1, 5_400)  # model, Timeout
TIMEOUT_S_DEFAULT = 3
EPHEMERAL_MIB = (512, 10_240)  # model, EphemeralStorage (more is for accelerators)
NAME_CHARS_MAX = 64  # model, CreateFunction: "the length constraint applies only to the full ARN; the name 64"
DESCRIPTION_CHARS_MAX = 256  # model
HANDLER_CHARS_MAX = 128  # model
ENVIRONMENT_BYTES_MAX = 4 * 1024  # quotas: 4 KB, in aggregate
LAYERS_MAX = 5  # quotas
MIB_PER_VCPU = 1_769  # guide, "Configuring memory": at 1,769 MB a function has the equivalent of one vCPU

# --- packages
ZIP_BYTES_MAX = 50 * MIB  # quotas: zipped, direct upload
UNZIPPED_BYTES_MAX = 250 * MIB  # quotas: with all layers
ENTRIES_MAX = 10_000  # ours
STORAGE_BYTES_MAX = 75 * 1024 * MIB  # quotas: functions and layers of an account in a region

# --- invocations
SYNC_BYTES_MAX = 6 * MIB  # quotas: request and response each
ASYNC_BYTES_MAX = MIB  # quotas
STREAM_BYTES_MAX = 200 * MIB  # quotas: a streamed response
CLIENT_CONTEXT_BYTES_MAX = 3_583  # model, Invoke: after base64
TAIL_BYTES_MAX = 4 * 1024  # model, Invoke: the last 4 KB
INIT_S_MAX = 10  # guide, "Execution environment lifecycle": the init phase

# --- concurrency
ACCOUNT_CONCURRENCY = 1_000  # quotas
UNRESERVED_MIN = 100  # guide, "Reserved concurrency": 100 stay unreserved
SCALE_STEP = 1_000  # guide, "Scaling behavior": 1,000 environments ...
SCALE_STEP_S = 10.0  # ... every 10 seconds for each function

# --- asynchronous invocations
RETRIES = (0, 2)  # model, MaximumRetryAttempts
EVENT_AGE_S = (60, 21_600)  # model, MaximumEventAgeInSeconds

# --- schedules
SCHEDULE_GROUPS_MAX = 500  # EventBridge Scheduler guide, "Quotas": of an account in a region

# --- event source mappings from queues
BATCH_MAX = 10_000  # model; guide: above 10 needs a window of a second
BATCH_FIFO_MAX = 10  # guide, "Using Lambda with Amazon SQS"
BATCH_DEFAULT = 10  # model
WINDOW_S = (0, 300)  # model
MAPPING_CONCURRENCY = (2, 1_000)  # model, ScalingConfig
FILTERS_MAX = 5  # model, FilterCriteria (10 where the quota is raised)
FILTER_CHARS_MAX = 4_096  # model, Pattern
FILTER_TESTS_AT_ONCE = 10_000  # ours: of one message against conditions on the event loop, some 10 ms
FILTER_TESTS_BESIDE = 3_000_000  # ours: of one message in all, some 3 s
FILTER_LOOKS_MAX = 4  # ours: messages of an account that are, or wait to be, matched beside the event loop
