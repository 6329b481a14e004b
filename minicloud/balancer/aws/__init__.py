"""The elbv2 door: Elastic Load Balancing's wire on the balancer service (elbv2.py)."""
