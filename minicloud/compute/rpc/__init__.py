"""The gRPC door of the compute slice: translation only. Each servicer names the service of its proto."""
