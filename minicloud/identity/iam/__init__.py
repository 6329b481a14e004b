"""IAM's records: users, roles, policies, instance profiles. Pure; kept in the identity machine.

They are stored and returned; what they allow is not enforced yet: a key may do in its account whatever the account may.
"""
