"""Limits of load balancers, each with its source ("API": botocore's text of the elbv2 API; "ALB", "NLB": the user
guides' pages "Quotas for your ... Load Balancers")."""

from __future__ import annotations

NAME_CHARS_MAX = 32  # API, CreateLoadBalancer and CreateTargetGroup
BALANCERS_MAX = 50  # ALB, NLB: of each type in a region
GROUPS_MAX = 3_000  # ALB: target groups of a region
LISTENERS_MAX = 50  # ALB, NLB: of a load balancer
RULES_MAX = 100  # ALB: of a load balancer, default rules not counted
PRIORITY_MAX = 50_000  # API, RulePriority
CONDITION_VALUES_MAX = 5  # ALB: "Condition values per rule"
WILDCARDS_MAX = 6  # ALB: "Condition wildcards per rule"
CONDITION_CHARS_MAX = 128  # API, the condition configs
HEADER_NAME_CHARS_MAX = 40  # API, HttpHeaderConditionConfig
METHOD_CHARS_MAX = 40  # API, HttpRequestMethodConditionConfig
ACTION_GROUPS_MAX = 5  # ALB: "Target groups per action"
BALANCER_GROUPS_MAX = 100  # ALB: "Target groups per Application Load Balancer"
GROUP_WEIGHT_MAX = 999  # ALB, "Forward actions": 0 to 999
STICKY_S_MAX = 604_800  # API, stickiness durations: 1 second to 7 days
TARGETS_MAX = 1_000  # ALB: targets of a target group
FUNCTIONS_MAX = 1  # ALB: "Targets per target group (Lambda functions)"
CERTIFICATES_MAX = 25  # ALB, NLB: of a listener, default certificates not counted
PEM_CHARS_MAX = 32_768  # ACM, ImportCertificate: 32,768 bytes of certificate
CHAIN_CHARS_MAX = 2_097_152  # same page
FIXED_BODY_CHARS_MAX = 1_024  # API, FixedResponseActionMessage
PATH_CHARS_MAX = 1_024  # API, Path (health checks)
REDIRECT_CHARS_MAX = 128  # API, RedirectActionHost, Path, Query
HEALTH_INTERVAL_S = (5, 300)  # API, CreateTargetGroup
HEALTH_TIMEOUT_S = (2, 120)  # same page
HEALTH_THRESHOLD = (2, 10)  # same page
DRAIN_S_MAX = 3_600  # API, deregistration_delay.timeout_seconds
SLOW_START_S = (30, 900)  # API, slow_start.duration_seconds; 0 turns it off
IDLE_S = (1, 4_000)  # API, idle_timeout.timeout_seconds
TCP_IDLE_S = (60, 6_000)  # API, tcp.idle_timeout.seconds
KEEP_ALIVE_S = (60, 604_800)  # API, client_keep_alive.seconds
TAGS_MAX = 50  # API, TooManyTags
REQUEST_ITEMS_MAX = 1_000  # ours: targets of one call; as many as a group can have
CONNECTIONS_MAX = 20_000  # ours: of one shard's HAProxy; a connection through it takes about 40 KiB
