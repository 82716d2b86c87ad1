"""What AWS front ends share: who asks, what is asked, and how the answer is written.

==================  ====================================================================
Pure functions over bytes and dicts: no HTTP server, no catalog, nothing that waits.
"""
