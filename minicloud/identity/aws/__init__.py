"""The AWS door of the identity slice (IAM, STS): translation only."""
