"""The EBS direct API (REST-JSON): blocks of snapshots, read and written without a volume.

==================  ==========================================================================
``gateway.py``      the front end: a signed request → an operation → an answer
``errors.py``       ``EbsError``, and what vmferry's own errors are called here
``services.py``     what an operation may use
``operations/``     one file per operation, each exporting ``OPERATION``
``tokens.py``       tokens of blocks and of pages
``snapshots.py``    the caller's snapshots, and the disks behind them
``uploads.py``      snapshots that blocks are put into
``listing.py``      what both List operations have in common
``expiry.py``       uploads that nobody goes on with
==================  ==========================================================================
"""
