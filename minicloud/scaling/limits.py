"""Limits of auto scaling, each with its source ("API": botocore's text of the autoscaling API; "guide": EC2 Auto
Scaling User Guide; "quotas": AWS General Reference, "Amazon EC2 Auto Scaling endpoints and quotas")."""

from __future__ import annotations

# --- groups
GROUPS_MAX = 500  # quotas: groups of a region
GROUP_NAME_CHARS_MAX = 255  # API, CreateAutoScalingGroup
GROUP_SIZE_MAX = 10_000  # ours: what max may be; AWS leaves it to the quota of instances
ZONES_MAX = 16  # ours: zones a group may name
OVERRIDES_MAX = 40  # API, LaunchTemplate: overrides of a mixed instances policy
TARGET_GROUPS_MAX = 50  # quotas: target groups of a group
TOPICS_MAX = 10  # quotas: SNS topics of a group
HOOKS_MAX = 50  # quotas: lifecycle hooks of a group
COOLDOWN_S_DEFAULT = 300  # API, DefaultCooldown
WARMUP_S_MAX = 21_600  # ours: six hours; no instance may count as warming up for ever
GRACE_S_DEFAULT = 0  # API, HealthCheckGracePeriod: 0 for groups made by the API
LIFETIME_S_MIN = 86_400  # API, MaxInstanceLifetime: 0 or at least a day
LIFETIME_S_MAX = 31_536_000  # guide, "Replace instances based on maximum instance lifetime": a year
ATTACH_MAX = 20  # API, AttachInstances, DetachInstances, EnterStandby, ExitStandby: ids a call
PROTECT_MAX = 50  # API, SetInstanceProtection: ids a call
LAUNCHES_MAX = 1_000  # ours: new instances a group asks for in one pass; the next pass goes on
ACTIVITIES_KEPT = 100  # ours: activities a group remembers; AWS keeps those of six weeks

# --- lifecycle hooks: API, PutLifecycleHook
HOOK_TIMEOUT_S_MIN = 30
HOOK_TIMEOUT_S_MAX = 7_200
HOOK_TIMEOUT_S_DEFAULT = 3_600
HOOK_TOTAL_S_MAX = 172_800  # the wait as a whole: 48 hours or 100 times the timeout, whichever is smaller
HOOK_HEARTBEATS_MAX = 100
HOOK_METADATA_CHARS_MAX = 4_000

# --- pace of the reconciler (ours)
LAUNCH_BACKOFF_S_MIN = 5.0
LAUNCH_BACKOFF_S_MAX = 600.0
COLD_S_MAX = 60.0  # a place without room is tried again at least so often: room comes when others leave
COLD_REMEMBERED_S = 3_600.0  # so long a full group does not end an instance to balance into a zone that failed
STABLE_S = 60.0  # an instance that dies sooner after its launch says something about the template
STUMBLED_S = 60.0  # a group over which a pass stumbled is looked at again so much later
DRAIN_S_MAX = 3_660.0  # deregistration delay is at most 3,600 s (elbv2 API); after that the balancer is not waited for
REPLACED_AT_ONCE_PERCENT = 10  # guide, maximum instance lifetime: about a tenth of the group at a time

# --- policies: API, PutScalingPolicy
POLICIES_MAX = 50  # quotas: scaling policies of a group
STEPS_MAX = 20  # quotas: step adjustments of a policy
SCHEDULED_MAX = 125  # quotas: scheduled actions of a group
POLICY_NAME_CHARS_MAX = 255
OUT_POINTS = 3  # guide, target tracking: alarm for scale-out after 3 periods
IN_S = 900  # same page: alarm for scale-in after 15 periods of a minute
IN_BELOW = 0.9  # same page: scale-in when the metric is more than 10 % below the target
PERIODS_S = (10, 30, 60)  # API, CustomizedMetricSpecification.Period

# --- forecasts: guide, "How predictive scaling works"
HISTORY_S_MIN = 86_400  # at least 24 hours
HISTORY_S_MAX = 14 * 86_400  # up to 14 days
HORIZON_S = 48 * 3_600
REFRESH_S = 3_600  # ours: AWS updates every 6 hours
FORECAST_STEP_S = 900  # ours: AWS forecasts hours; a quarter of an hour starts ramps on time
BUFFER_S_MAX = 3_600  # API, SchedulingBufferTime
CAPACITY_BUFFER_PERCENT_MAX = 100  # API, MaxCapacityBuffer

# --- instance refresh: API, RefreshPreferences
MIN_HEALTHY_PERCENT_DEFAULT = 90
CHECKPOINT_DELAY_S_DEFAULT = 3_600
CHECKPOINT_DELAY_S_MAX = 172_800
BAKE_S_MAX = 172_800
REFRESH_ALARMS_MAX = 10  # API, AlarmSpecification
REFRESH_WAIT_S = 3_600  # guide: waits an hour for protected and standby instances, then fails
REFRESHES_KEPT = 20  # ours: AWS keeps those of six weeks
REFRESH_FAILURES_MAX = 5  # ours: rounds of launches in a row that failed before a refresh gives up
PENDING_S_MAX = 900.0  # ours: an instance that does not run by then is given up; compute gives up after 300 s
