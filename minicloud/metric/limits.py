"""Limits of metrics and alarms, each with its source ("API": botocore's text of the CloudWatch API; "guide":
CloudWatch User Guide; "quotas": its page "CloudWatch service quotas")."""

from __future__ import annotations

DAY_S = 86_400

# --- data points
NAMESPACE_CHARS_MAX = 255  # API, PutMetricData
METRIC_NAME_CHARS_MAX = 255  # API, MetricDatum
DIMENSIONS_MAX = 30  # API, MetricDatum
DIMENSION_NAME_CHARS_MAX = 255  # API, Dimension
DIMENSION_VALUE_CHARS_MAX = 1_024  # API, Dimension
DATA_PER_PUT_MAX = 1_000  # API, PutMetricData: different metrics of a request
VALUES_MAX = 150  # API, PutMetricData: values of one datum
VALUE_MAX = 2.0**360  # API, PutMetricData: -2^360 to 2^360
PAST_S_MAX = 14 * DAY_S  # API, PutMetricData: time stamps up to two weeks back
FUTURE_S_MAX = 2 * 3_600  # API, PutMetricData: and two hours ahead
SERIES_MAX = 100_000  # ours: metrics (by unit) of a store; AWS has no quota, memory has
CROWDED = 0.8  # ours: of these; beyond it, metrics that nobody puts any more are forgotten, the longest silent first
SILENT_S_MIN = 6 * 3_600  # ours: for how long they must have been silent

# --- retention, guide, "Metrics retention": how long the points of each width are kept
RETENTION_S = {1: 3 * 3_600, 60: 15 * DAY_S, 300: 63 * DAY_S, 3_600: 455 * DAY_S}
LISTED_S = 14 * DAY_S  # API, ListMetrics: metrics without data for two weeks are not listed
RECENTLY_ACTIVE_S = 3 * 3_600  # API, ListMetrics: RecentlyActive=PT3H

# --- reading
PERIODS_SHORT = (1, 5, 10, 20, 30)  # API, MetricStat: and every multiple of 60
PERIOD_S_MAX = DAY_S  # quotas: Period
STATISTICS_POINTS_MAX = 1_440  # API, GetMetricStatistics
STATISTICS_MAX = 5  # API, GetMetricStatistics: Statistics
EXTENDED_STATISTICS_MAX = 10  # API, GetMetricStatistics: ExtendedStatistics
QUERIES_MAX = 500  # API, GetMetricData
QUERY_POINTS_MAX = 100_800  # API, GetMetricData: of one answer
COMPUTED_POINTS_MAX = 1_008_000  # ours: of all queries of a request, those that are not returned too; 40 MB
LIST_PAGE = 500  # API, ListMetrics
LIST_LOOKED_AT_MAX = 20_000  # ours: metrics that one call looks at, some 20 ms; it answers with what it found by then
LIST_FILTERS_MAX = 10  # API, ListMetrics: Dimensions
EXPRESSION_CHARS_MAX = 2_048  # API, MetricDataQuery
QUERY_ID_CHARS_MAX = 255  # API, MetricDataQuery
EXPRESSION_DEPTH_MAX = 50  # ours: nesting of an expression or of an alarm rule

# --- alarms
ALARM_NAME_CHARS_MAX = 255  # API, PutMetricAlarm
ALARM_DESCRIPTION_CHARS_MAX = 1_024  # API, PutMetricAlarm
ALARM_ACTIONS_MAX = 5  # API, PutMetricAlarm: of a state
ALARM_ACTION_CHARS_MAX = 1_024  # API, PutMetricAlarm
ALARMS_MAX = 50_000  # ours: of an account in a region; quotas: no limit any more, 5,000 before
ALARM_METRICS_MAX = 10  # quotas: metrics of an alarm on an expression
ALARM_PERIODS = (10, 20, 30)  # API, PutMetricAlarm: and every multiple of 60
ALARM_RANGE_S_MAX = DAY_S  # API, PutMetricAlarm: Period x EvaluationPeriods where the period is below an hour
ALARM_LONG_RANGE_S_MAX = 7 * DAY_S  # API, PutMetricAlarm: the same from an hour on
ALARM_TAGS_MAX = 50  # API, PutMetricAlarm
RULE_CHARS_MAX = 10_240  # API, PutCompositeAlarm
RULE_ALARMS_MAX = 100  # API, PutCompositeAlarm: alarms of a rule
RULE_PARENTS_MAX = 150  # API, PutCompositeAlarm: composite alarms that name one alarm
SUPPRESSOR_CHARS_MAX = 1_600  # API, PutCompositeAlarm
SUPPRESSOR_S_MAX = 86_400  # ours: wait and extension periods
STATE_REASON_CHARS_MAX = 1_023  # API, SetAlarmState
STATE_REASON_DATA_CHARS_MAX = 4_000  # API, SetAlarmState
DELETE_ALARMS_MAX = 100  # API, DeleteAlarms
DESCRIBE_PAGE_MAX = 100  # API, DescribeAlarms, DescribeAlarmHistory

# --- dashboards
DASHBOARD_WIDGETS_MAX = 500  # quotas: widgets of a dashboard
DASHBOARDS_CHARS_MAX = 16 * 1024 * 1024  # ours: of an account's documents, which are in memory
DASHBOARDS_PAGE = 100  # ours: of a list

HISTORY_S = 14 * DAY_S  # guide, "Common features of CloudWatch alarms": two weeks
HISTORY_ITEMS_MAX = 1_000  # ours: of one alarm
HISTORY_TOTAL_MAX = 100_000  # ours: of all alarms of a process, some 100 MB; beyond it the oldest of who has most go
HISTORY_SUMMARY_CHARS_MAX = 255  # API, AlarmHistoryItem
HISTORY_DATA_CHARS_MAX = 4_095  # API, AlarmHistoryItem

EVALUATION_S = 60  # guide, "Alarm evaluation": every minute
EVALUATION_HIGH_S = 10  # guide, same page: periods of 10, 20 and 30 s every ten seconds
EVALUATION_LONG_S = 3_600  # guide, same page: ranges above a day every hour
EVALUATION_DELAY_S = 2.0  # ours: data of the second before must have come
EVALUATION_EXTRA = 2  # guide's example: 5 points are looked at for 3 evaluation periods
EVALUATIONS_PER_TICK = 1_000  # ours: so that one tick stays short
SCALING_REPEAT_S = 60  # guide, "Alarm actions": auto scaling actions go on once a minute while the state lasts
