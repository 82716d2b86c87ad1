"""What runs durable tasks: ``worker`` (a process that does steps) and ``dispatcher`` (starts and ends workflows).

Neither knows what a task does; both know the workflow server, and nobody else does.
"""
