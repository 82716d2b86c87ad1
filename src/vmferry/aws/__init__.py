"""What AWS front ends share: who asks, what is asked, and how the answer is written.

==================  ===========================================================================
``signature.py``    Signature Version 4, checked: by header and by presigned query
``model.py``        botocore's description of a service, typed and offline
``query.py``        a request of EC2's Query dialect → a checked dict in the model's member names
``rest_json.py``    a request of REST-JSON → the same, and a dict → the answer
``scalars.py``      single values as text
``xml.py``          a dict in the model's member names → the answer; errors → their envelope
``tags.py``         tags as requests carry them
``ids.py``          new ids
``fingerprint.py``  whether two requests are the same
``errors.py``       ``ApiError``: a code, a sentence and an HTTP status
==================  ===========================================================================

Pure functions over bytes and dicts: no HTTP server, no catalog, nothing that waits.
"""
