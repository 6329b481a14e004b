"""The AWS door of the compute slice (EC2, SSM): translation only, one file a noun, put together in ec2.py."""
