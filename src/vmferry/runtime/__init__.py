"""What runs beside the requests: ``worker`` (a process that does steps of tasks) and ``dispatcher`` (starts and ends
their workflows), which know the workflow server and not what a task does; ``sweeper`` and ``leftovers`` (housekeeping);
``metrics``.
"""
