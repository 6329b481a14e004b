"""The servers that we are measured against: each started by the benchmark, on loopback, with its data beside ours."""
