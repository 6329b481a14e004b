"""Auto Scaling as one door: every noun's operations, and the lists of what there is to choose from."""

from __future__ import annotations

from minicloud.aws.call import Call, only
from minicloud.base.errors import UnsupportedOperation
from minicloud.scaling import checks, hooks, notices, steps
from minicloud.scaling.aws import shown
from minicloud.scaling.aws.base import Params, Result
from minicloud.scaling.aws.groups import GroupDoor
from minicloud.scaling.aws.members import MemberDoor
from minicloud.scaling.aws.policies import PolicyDoor
from minicloud.scaling.errors import invalid


class AutoScaling(GroupDoor, MemberDoor, PolicyDoor):
    """For `Door("autoscaling", AutoScaling(service, places, page_secret))`."""

    async def DescribeAdjustmentTypes(self, params: Params, call: Call) -> Result:
        only(params, call)
        return {"AdjustmentTypes": [{"AdjustmentType": name} for name in steps.KINDS]}

    async def DescribeAutoScalingNotificationTypes(self, params: Params, call: Call) -> Result:
        only(params, call)
        return {"AutoScalingNotificationTypes": list(notices.EVENTS)}

    async def DescribeLifecycleHookTypes(self, params: Params, call: Call) -> Result:
        only(params, call)
        return {"LifecycleHookTypes": list(hooks.TRANSITIONS)}

    async def DescribeMetricCollectionTypes(self, params: Params, call: Call) -> Result:
        only(params, call)
        return {
            "Metrics": [{"Metric": name} for name in checks.METRICS],
            "Granularities": [{"Granularity": shown.GRANULARITY}],
        }

    async def DescribeScalingProcessTypes(self, params: Params, call: Call) -> Result:
        only(params, call)
        return {"Processes": [{"ProcessName": name} for name in checks.PROCESSES]}

    async def DescribeTerminationPolicyTypes(self, params: Params, call: Call) -> Result:
        """All but OldestLaunchConfiguration and custom ones by functions."""
        only(params, call)
        return {"TerminationPolicyTypes": list(checks.TERMINATION_POLICIES)}

    # --- launch configurations: AWS has closed them to new accounts, and so it is here; the answers are the same

    async def CreateLaunchConfiguration(self, params: Params, call: Call) -> Result:
        """Refused as AWS refuses it to new accounts: launch templates are used."""
        raise UnsupportedOperation(
            "The Launch Configuration creation operation is not available in your account. "
            "Use launch templates to create configuration templates for your Auto Scaling groups."
        )

    async def DescribeLaunchConfigurations(self, params: Params, call: Call) -> Result:
        """There are none."""
        only(params, call, "LaunchConfigurationNames", "NextToken", "MaxRecords")
        return {"LaunchConfigurations": []}

    async def DeleteLaunchConfiguration(self, params: Params, call: Call) -> Result:
        only(params, call, "LaunchConfigurationName")
        name = params["LaunchConfigurationName"]
        raise invalid(
            f"Launch configuration name not found - Launch configuration {name} not found", "LaunchConfigurationName"
        )
