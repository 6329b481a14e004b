"""Every limit, with its source. Nothing in minicloud is unbounded."""

from __future__ import annotations

# --- tags: EC2 User Guide, "Tag restrictions"
TAGS_PER_RESOURCE_MAX = 50
TAG_KEY_CHARS_MAX = 128
TAG_VALUE_CHARS_MAX = 256

# --- EC2
USER_DATA_BYTES_MAX = 16 * 1024  # EC2 User Guide, "instancedata-add-user-data": 16 KB before base64
LAUNCH_COUNT_MAX = 1000  # ours: one request; AWS answers large counts in one request too, bounded by quota
CLIENT_TOKEN_CHARS_MAX = 64  # EC2 API, "Ensuring idempotency": up to 64 ASCII characters
TEMPLATE_TOKEN_CHARS_MAX = 128  # EC2 API, CreateLaunchTemplate
CLIENT_TOKEN_KEPT_S = 24 * 3600  # ours; AWS does not publish a figure for RunInstances
TERMINATED_KEPT_S = 3600  # EC2 User Guide, "terminated instances remain visible for a short while": about an hour
LAUNCH_TEMPLATE_VERSIONS_MAX = 10_000  # EC2 User Guide, launch template quotas: 10,000 versions a template
LAUNCH_TEMPLATES_MAX = 5_000  # same page: 5,000 launch templates a region
KEY_PAIRS_MAX = 5_000  # EC2 quotas: 5,000 key pairs a region
SECURITY_GROUPS_MAX = 2_500  # VPC quotas: 2,500 VPC security groups a region
SECURITY_GROUP_RULES_MAX = 60  # same page: 60 inbound and 60 outbound rules a group
SECURITY_GROUPS_PER_INSTANCE_MAX = 5  # same page: 5 groups a network interface
NAME_CHARS_MAX = 255
DESCRIPTION_CHARS_MAX = 255
PARTITIONS_MAX = 7  # EC2 User Guide, placement groups: seven partitions a zone
SPREAD_PER_ZONE_MAX = 7  # same page: seven running instances a zone a spread group
GUEST_FIRST_S_MAX = 0.05  # ours: how long an actor waits for the host's word that its guest boots; usual 5 ms
PENDING_S_MAX = 300  # ours: a launch that has no guest by then is given up; Ray starts 2-5 cold workers a second

# --- default quotas of an account (EC2 Service Quotas: 5 vCPUs for new accounts; generous here, it is your machine)
QUOTA_INSTANCES = 1_000
QUOTA_VCPUS = 4_096
QUOTA_MAX = 1_000_000_000  # ours: what a quota may be set to
ACCOUNTS_MAX = 10_000  # ours; AWS Organizations starts with 10 and grows to thousands
ACCESS_KEYS_PER_ACCOUNT_MAX = 100  # ours: IAM allows 2 per user, an account here has no users yet

# --- IAM: "IAM and AWS STS quotas" (IAM User Guide, reference_iam-quotas)
IAM_USERS_MAX = 5_000
IAM_ROLES_MAX = 5_000  # 1,000 by default, 5,000 at most
IAM_POLICIES_MAX = 5_000  # 1,500 by default, 5,000 at most
IAM_PROFILES_MAX = 5_000
IAM_NAME_CHARS_MAX = 128
IAM_PATH_CHARS_MAX = 512
IAM_POLICY_CHARS_MAX = 6_144
IAM_INLINE_CHARS_MAX = 10_240
IAM_ATTACHED_MAX = 20
IAM_POLICY_VERSIONS_MAX = 5
IAM_SESSION_S_MIN = 3_600  # of MaxSessionDuration
IAM_SESSION_S_MAX = 43_200
IAM_KEYS_PER_USER_MAX = 2

# --- SSM: AWS Systems Manager endpoints and quotas; API reference
SSM_COMMANDS_KEPT_S = 30 * 24 * 3600  # command history: 30 days
SSM_COMMANDS_MAX = 1_000  # ours: of an account and region; the oldest that ended makes room
SSM_RUN_S_MAX = 172_800  # AWS-RunShellScript, executionTimeout: 48 hours
SSM_SCRIPT_BYTES_MAX = 64 * 1024  # ours; one argument of a process has 128 KiB at most
SSM_PARAMETERS_MAX = 10_000  # standard parameters of an account and region
SSM_STANDARD_BYTES_MAX = 4_096
SSM_ADVANCED_BYTES_MAX = 8_192
SSM_NAME_CHARS_MAX = 1_011  # PutParameter, Name
SSM_LEVELS_MAX = 15

# --- listing
PAGE_SIZE_DEFAULT = 100
PAGE_SIZE_MAX = 1_000  # EC2 API: MaxResults 5-1000

# --- doors
GRPC_MESSAGE_BYTES_MAX = 4 * 1024 * 1024  # gRPC's own default, kept
GRPC_FUNCTION_BYTES_MAX = 8 * 1024 * 1024  # ours: payloads of functions are up to 6 MiB
GRPC_METADATA_BYTES_MAX = 16 * 1024
GRPC_CALLS_MAX = 4_096  # ours: at once and in one server, long streams included; beyond it RESOURCE_EXHAUSTED
GRPC_BROKER_CALLS_MAX = 10_000  # ours: the same for a message broker, where most of them are long polls
GRPC_STREAMS_PER_CONNECTION_MAX = 1_024  # ours: one connection cannot take every call
HTTP_HEAD_BYTES_MAX = 16 * 1024
HTTP_BODY_BYTES_MAX = 64 * 1024 * 1024
STREAM_CHUNK_BYTES_MAX = 256 * 1024

# --- guests
CONSOLE_BYTES_MAX = 4 * 1024 * 1024  # console log ring on a host; GetConsoleOutput returns the last 64 KiB, as AWS
CONSOLE_REPLY_BYTES_MAX = 64 * 1024  # EC2 API, GetConsoleOutput
PIDS_PER_GUEST_MAX = 4_096
EXEC_SESSIONS_PER_GUEST_MAX = 64
IMAGE_BYTES_MAX = 10 * 1024**3

# --- fleet timing (RELIABILITY §3: Ray's tuned health check notices a killed raylet in 1.1 s, a frozen one in 4.5 s)
HOST_HEARTBEAT_S = 1.0
HOST_LOST_AFTER_S = 10.0  # silence alone; a starved agent must not cost its guests (RELIABILITY §8, row 26)
