"""The servers that ``vmferry serve`` runs as child processes, and what keeps them alive.

``child`` starts one process that dies with us; ``supervisor`` keeps any number of them running; ``ports`` and ``lock``
belong to the data directory; ``seaweedfs`` and ``temporal`` say how their server is started and when it is ready.
"""
