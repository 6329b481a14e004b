"""The lambda door: AWS Lambda's wire on the function service (functions.py)."""
