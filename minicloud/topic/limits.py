"""Limits of topics, each with its source ("API": botocore's text of the SNS API; "guide": SNS Developer Guide;
"quotas": AWS General Reference, "Amazon SNS endpoints and quotas")."""

from __future__ import annotations

TOPIC_NAME_CHARS_MAX = 256  # API, CreateTopic
TOPICS_MAX = 100_000  # API, CreateTopic: standard topics of an account
FIFO_TOPICS_MAX = 1_000  # API, CreateTopic: FIFO topics of an account
TOPIC_TAGS_MAX = 50  # API, TagLimitExceededException
DISPLAY_NAME_CHARS_MAX = 100  # guide, "Creating an Amazon SNS topic"
POLICY_BYTES_MAX = 30_720  # quotas: access policy
SUBSCRIPTIONS_MAX = 12_500_000  # quotas: of a standard topic
FIFO_SUBSCRIPTIONS_MAX = 100  # quotas: of a FIFO topic
LARGE_SUBSCRIPTIONS_MAX = 100  # API, CreateTopic: of a topic whose MaximumMessageSize is above 256 KiB
ENDPOINT_CHARS_MAX = 2_048  # ours: a URL; browsers and proxies stop about there
PENDING_S_MAX = 172_800  # API, Subscribe: confirmation tokens are valid for two days

MESSAGE_BYTES_DEFAULT = 262_144  # API, Publish: 256 KiB, body and attributes together
MESSAGE_BYTES_MIN = 1_024  # API, CreateTopic: the least that MaximumMessageSize can be
MESSAGE_BYTES_MAX = 1_048_576  # API, CreateTopic: MaximumMessageSize up to 1 MiB
SUBJECT_CHARS_MAX = 100  # API, Publish ("less than 100"); SNS itself takes exactly 100
BATCH_ENTRIES_MAX = 10  # API, PublishBatch
BULK_MESSAGES_MAX = 1_000  # ours: the bulk calls of the native API
COPIES_AT_ONCE = 100_000  # ours: of messages to subscriptions, in one turn of the broker: about 40 ms
BULK_BYTES_MAX = 4_194_304  # ours: all entries of such a call together
TOKEN_CHARS_MAX = 128  # API: MessageGroupId, MessageDeduplicationId
ATTRIBUTE_NAME_CHARS_MAX = 256  # guide, "Message attributes"
ATTRIBUTE_TYPE_CHARS_MAX = 256  # guide, same page
ATTRIBUTES_MAX = 100  # ours: the guide names no limit; size bounds them too
RAW_ATTRIBUTES_MAX = 10  # guide, "Message attributes": more of them to a raw queue are a client-side error
DEDUPLICATION_S = 300  # API, Publish: five minutes

FILTER_BYTES_MAX = 262_144  # guide, "Filter policy constraints": 256 KB
FILTER_KEYS_MAX = 5  # guide, same page
FILTER_COMBINATIONS_MAX = 150  # guide, same page
FILTER_DEPTH_MAX = 50  # ours: nesting of a policy, and of a body as far as a policy looks into it
FILTER_TESTS_AT_ONCE = 20_000  # ours: of messages against conditions, in one turn of the broker: some 10 ms
FILTER_TESTS_BESIDE = 3_000_000  # ours: of one message in all, some 3 s beside the event loop
FILTER_LOOKS_MAX = 4  # ours: messages of an account that are, or wait to be, matched beside the event loop
FILTERS_OF_TOPIC_MAX = 200  # guide, same page
FILTERS_OF_ACCOUNT_MAX = 10_000  # guide, same page

RETRIES_MAX = 100  # guide, "Creating an HTTP/S delivery policy": numRetries 0 to 100
DELAY_S_MAX = 3_600  # guide, same page: maxDelayTarget; a total above it is cut, too
DELIVERY_S_MAX = 3_600  # guide, "Message delivery retries": total time of all retries of a message
RECEIVES_PER_S_MIN = 1  # guide, "Creating an HTTP/S delivery policy": maxReceivesPerSecond, 1 or greater
POSTS_OF_SUBSCRIPTION_MAX = 10  # ours: at once to one endpoint
POSTS_MAX = 1_000  # ours: at once by a broker
