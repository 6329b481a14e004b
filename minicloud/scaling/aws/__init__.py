"""The AWS door of the scaling slice: translation only, one file a noun, put together in autoscaling.py."""
