"""The sync classes; made by `python minicloud/client/generate.py`."""
